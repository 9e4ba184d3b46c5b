"""The service from Python: `Diffin(url, key)`, with plain methods and typed results."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from diffin.calls.exports import ExportCalls
from diffin.calls.jobs import JobCalls
from diffin.calls.keys import KeyCalls
from diffin.calls.questions import QuestionCalls
from diffin.calls.selections import SelectionCalls
from diffin.http import Transport
from diffin.models import Json

LOCAL = "http://127.0.0.1:8000"


class Diffin(QuestionCalls, JobCalls, SelectionCalls, ExportCalls, KeyCalls):
    """A connection to the service, safe to share between threads.

    Args:
        url: where it listens; else `DIFFIN_URL`, else this machine's port 8000.
        key: the API key; else `DIFFIN_API_KEY`.
        timeout: seconds to wait for any one answer.
        retries: how often a request that met a broken connection, 429 or 503 is sent again.

    Every method raises `DiffinError` where the service refuses or can't be reached. A resource may be given
    as its id or as the object that the client returned.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 60.0, retries: int = 5
    ) -> None:
        key = key or os.environ.get("DIFFIN_API_KEY")
        if not key:
            raise ValueError("no API key: pass key=… or set DIFFIN_API_KEY (`diffin serve` prints its key)")
        url = url or os.environ.get("DIFFIN_URL") or LOCAL
        self._transport = Transport(url, key, timeout=timeout, retries=retries)

    @property
    def url(self) -> str:
        return self._transport.url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the service

    def methods(self) -> list[Json]:
        """The methods with their cost, needs, and the JSON schema of their options."""
        return list(self._transport.pages("/v1/methods"))

    def architectures(self) -> list[Json]:
        """The registered networks with the JSON schema of their config."""
        return list(self._transport.pages("/v1/architectures"))

    def capabilities(self) -> Json:
        return self._json("/v1/capabilities")
