"""Around every request: its id, its size limit, its count and latency, what browsers may do with it."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import uuid_utils
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs, tracing
from app.api.metrics import Metrics
from app.api.problems import ApiProblem, answered

# What an answer may do in a browser, unless it says so itself: nothing that is not served from here. With
# `no-referrer` browsers would send our own page's forms without an origin.
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; "
    "script-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
MOST_HEADERS, MOST_HEADER_BYTES = 100, 32 * 1024
SLOWEST = 8 * 1024  # bytes a second of a body
REST_BYTES, REST_SECONDS = 64 * 1024, 1.0  # of a body that nobody reads
log = logging.getLogger(__name__)
PROBES = ("/livez", "/readyz", "/metrics")  # asked every few seconds
SAFE_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


class RequestId:
    """Names every request: the client's `X-Request-ID` when it is a safe one, else a fresh one, sent back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if SAFE_ID.fullmatch(given) else f"req_{uuid_utils.uuid7()}"
        scope.setdefault("state", {})["request_id"] = name

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = name
            await send(message)

        with logs.about(request_id=name, traceparent=tracing.traceparent()):
            await self.app(scope, receive, send_named)


class SafeHeaders:
    """Tells browsers to run, frame and guess nothing, and to keep no page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, send_safe)


class Heads:
    """Answers HEAD as it would answer GET, and ends with the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}  # a copy: the server must know that no body comes

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif message.get("more_body", False):
                raise _HeadSentError  # of a file, or a stream that would go on

        try:
            await self.app(asked, receive, send_head)
        except _HeadSentError:
            pass
        finally:  # what those further out count and log by
            scope.update({name: asked[name] for name in ("route", "path_params") if name in asked})


class _HeadSentError(Exception):
    """All that was asked for is sent."""


class HeaderLimit:
    """Refuses requests of more or larger headers than any client has reason to send."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        count = len(scope["headers"])
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        code = "too_many_headers" if count > MOST_HEADERS else "headers_too_large"
        if count <= MOST_HEADERS and size <= MOST_HEADER_BYTES:
            await self.app(scope, receive, send)
            return
        detail = f"The request has {count} headers, {size:,} bytes: too many; see docs/security.md."
        refused = ApiProblem(431, code, detail, headers={"Connection": "close"})
        await answered(Request(scope), refused)(scope, receive, send)


class OneLength:
    """Refuses requests whose body ends at two places, and hangs up: what a proxy takes for its rest, the
    server may take for the next request (RFC 9112, 6.1 and 6.3).

    The server's parser lets them pass: it goes by Transfer-Encoding, and knows it from HTTP/1.0 as well.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not (detail := self._refused(scope)):
            await self.app(scope, receive, send)
            return
        refused = ApiProblem(400, "ambiguous_length", detail, headers={"Connection": "close"})
        await answered(Request(scope), refused)(scope, receive, send)

    def _refused(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        if "transfer-encoding" not in headers:
            return None
        if "content-length" in headers:
            return "The request has both Content-Length and Transfer-Encoding: send one of them."
        if scope["http_version"] == "1.0":
            return "HTTP/1.0 knows no Transfer-Encoding: send Content-Length, or HTTP/1.1."
        return None


class BodyLimit:
    """Refuses bodies over `state.max_body_bytes`, by length or as they arrive; uploads lift the limit.

    A body may take `seconds`, and a second more for each `SLOWEST` bytes that came: who sends slower than
    that is not waited for.

    Of a body that is still coming when the answer begins, a little more is read: where that was all, the
    connection goes on, else it ends with the answer. The server itself would read on without an end.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["max_body_bytes"] = self.most
        told = Headers(scope=scope).get("content-length", "")
        seen, limited = 0, True  # until the body is whole, or the answer has begun
        started = time.monotonic()

        async def receive_limited() -> Message:
            nonlocal seen, limited
            if not limited:
                return await receive()
            refuse_if_over(state["max_body_bytes"], int(told) if told.isdecimal() else 0)
            left = started + self.seconds + seen / SLOWEST - time.monotonic()
            try:
                # unlike wait_for, without a task for each piece
                async with asyncio.timeout(max(left, 0.001)):
                    message = await receive()
            except TimeoutError:
                if not limited:  # the answer has begun meanwhile
                    return await receive()
                detail = f"Only {seen:,} bytes of the body came in {time.monotonic() - started:.0f} s."
                raise ApiProblem(408, "request_timeout", detail, headers={"Connection": "close"}) from None
            seen += len(message.get("body", b""))
            if limited:
                limited = message.get("more_body", False)
                refuse_if_over(state["max_body_bytes"], seen)
            return message

        async def send_last(message: Message) -> None:
            nonlocal limited
            if message["type"] == "http.response.start" and limited:
                headers = MutableHeaders(scope=message)
                if "connection" not in headers and not await _rest(scope, receive):
                    headers["Connection"] = "close"
                limited = False
            await send(message)

        await self.app(scope, receive_limited, send_last)


async def _rest(scope: Scope, receive: Receive) -> bool:
    """Whether the rest of the body has come, which is little and on its way, if there is any."""
    headers = Headers(scope=scope)
    told = headers.get("content-length", "0")
    length = int(told) if told.isdecimal() else 0
    if not length and "transfer-encoding" not in headers:
        return True
    if length > REST_BYTES or "expect" in headers:  # who expects to be asked for it need not send it at all
        return False
    left, more = REST_BYTES, True
    try:
        async with asyncio.timeout(REST_SECONDS):
            while more and left >= 0:
                message = await receive()
                left, more = left - len(message.get("body", b"")), message.get("more_body", False)
    except TimeoutError:
        return False
    return not more


def refuse_if_over(most: int, size: int, what: str = "body") -> None:
    """Raises 413 `payload_too_large` when `size` bytes are more than `most`."""
    if size > most:
        detail = f"The {what} is larger than {most:,} bytes; /v1/capabilities lists the limits."
        raise ApiProblem(413, "payload_too_large", detail, headers={"Connection": "close"})


class Measured:
    """Counts requests and their seconds by the route's template, so that ids make no series of their own."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_seen)
        finally:
            route, seconds = getattr(scope.get("route"), "path", "unmatched"), time.perf_counter() - started
            self.metrics.request(scope["method"], route, status, seconds)
            _tell(scope, route, status, seconds)


def _tell(scope: Scope, route: str, status: int, seconds: float) -> None:
    """One line a request, with the ids that its path names."""
    path = scope.get("raw_path", b"").decode("ascii", "replace")  # as it was sent: no line break can be in it
    ids = {name: one for name, one in scope.get("path_params", {}).items() if name.endswith("_id")}
    told = {"method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 4)}
    level = logging.DEBUG if route in PROBES else logging.INFO
    log.log(level, "request", extra=ids | told)
