"""Routes that share a path and method, told apart by the kind of body that a request brings."""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope


class MultipartRoute(APIRoute):
    """A route for multipart bodies alone."""

    kind = "multipart/form-data"

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        told = Headers(scope=scope).get("content-type", "")
        wanted = match is Match.FULL and told.lower().startswith(self.kind)
        return (match, child) if wanted else (Match.NONE, {})


class JsonRoute(MultipartRoute):
    """A route for JSON alone."""

    kind = "application/json"
