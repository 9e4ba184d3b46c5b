"""How every call is sent and read, and waiting until what was sent is validated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import httpx

from diffin.errors import InputInvalid
from diffin.http import Transport
from diffin.models import Dataset, Json, Trajectory, from_json

T = TypeVar("T")
Input = TypeVar("Input", Dataset, Trajectory)

CLASSIFICATION = {"type": "classification", "loss": "cross_entropy"}


class Calls:
    """A connection to the service."""

    _transport: Transport

    def ready(self, resource: Input, *, timeout: float | None = None) -> Input:
        """Waits until the service has read a data set, or every file of a run.

        Raises:
            InputInvalid: it found one of them invalid: that of the network before the checkpoints.
            TimeoutError: `timeout` seconds went by first.
        """
        kind = "datasets" if isinstance(resource, Dataset) else "trajectories"
        for body in self._transport.poll(f"/v1/{kind}/{resource.id}", timeout):
            resource = from_json(type(resource), body)
            parts = [resource] if isinstance(resource, Dataset) else resource.parts
            for part in parts:
                if part.status == "invalid":
                    raise InputInvalid(part)
            if all(part.status == "ready" for part in parts):
                break
        return resource

    def _json(self, path: str) -> Json:
        return dict(self._transport.send("GET", path).json())

    def _get(self, cls: type[T], path: str) -> T:
        return from_json(cls, self._json(path))

    def _read(self, cls: type[T], response: httpx.Response) -> T:
        return from_json(cls, response.json())

    def _pages(self, cls: type[T], path: str, params: Json, limit: int | None) -> Iterator[T]:
        return (from_json(cls, row) for row in self._transport.pages(path, params, limit))
