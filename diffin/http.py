"""One request to the service, tried again when that is safe and promises to help."""

from __future__ import annotations

import io
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from diffin.errors import DiffinError, refusal
from diffin.models import Problem

Sent = Callable[[int, int], None]
"""Called with the bytes sent so far and the bytes in all."""

PASSING = frozenset({429, 502, 503, 504})
UNHEARD = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
LONGEST_PAUSE = 60.0
POLL_SECONDS = 1.0
BYTES = "application/octet-stream"
LARGEST_PAGE = 1000


@dataclass(frozen=True)
class Upload:
    """A file to send as the multipart part `part`, read in pieces as it goes out; `others` by their parts."""

    path: Path
    sent: Sent | None = None
    others: Mapping[str, Path] = field(default_factory=dict)
    part: str = "file"

    @property
    def parts(self) -> list[tuple[str, Path, Sent | None]]:
        return [
            (self.part, self.path, self.sent),
            *((part, path, None) for part, path in self.others.items()),
        ]


class Transport:
    """httpx with retries: connection errors and 429/502/503/504, after `Retry-After` or a growing pause.

    Every POST carries an `Idempotency-Key`, the same on each try, so that a repeated one acts once.
    """

    def __init__(self, url: str, key: str, *, timeout: float, retries: int) -> None:
        self.url = url.rstrip("/")
        self._retries = retries
        self._http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=httpx.Timeout(timeout)
        )

    def close(self) -> None:
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        upload: Upload | None = None,
        content: Callable[[], Iterator[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer, if it is below 400.

        Args:
            content: a raw body, made anew for each try.

        Raises:
            DiffinError: the service refused, or could not be reached.
        """
        headers = dict(headers or {})
        if method == "POST":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        attempt = 0
        while True:
            response = failure = None
            with ExitStack() as opened:
                files = None
                if upload:
                    files = {
                        part: (path.name, opened.enter_context(_Watched(path, sent)), BYTES)
                        for part, path, sent in upload.parts
                    }
                try:
                    response = self._http.request(
                        method,
                        path,
                        params=params,
                        json=json,
                        data=form,
                        files=files,
                        content=content() if content else None,
                        headers=headers,
                    )
                except UNHEARD as error:
                    failure = error
                except httpx.HTTPError as error:
                    raise self._unreachable(error) from error
            if response is not None and response.status_code < 400:
                return response
            if attempt == self._retries or not (response is None or _may_pass(response, attempt)):
                raise self._unreachable(failure) if response is None else refusal(response)
            time.sleep(retry_after(response) or _backoff(attempt))
            attempt += 1

    def download(self, path: str, to: Path) -> None:
        """Writes an answer's bytes to `to` as they come; only a whole file takes that name. Where the
        connection breaks, the next one goes on from there.
        """
        fresh = to.with_name(f"{to.name}.part")
        try:
            with fresh.open("wb") as file:
                self._receive(path, file)
            fresh.replace(to)
        finally:
            fresh.unlink(missing_ok=True)

    def _receive(self, path: str, file: BinaryIO) -> None:
        version, attempt = "", 0
        while True:
            there = file.tell()
            rest = {"Range": f"bytes={there}-", "If-Range": version} if there and version else {}
            try:
                with self._http.stream("GET", path, headers=rest) as response:
                    if response.status_code >= 400:
                        response.read()
                        raise refusal(response)
                    if response.status_code != httpx.codes.PARTIAL_CONTENT:  # the whole, or another version
                        file.seek(0)
                        file.truncate()
                    version = response.headers.get("etag", "")
                    for piece in response.iter_bytes():
                        file.write(piece)
                return
            except UNHEARD as error:
                if attempt == self._retries:
                    raise self._unreachable(error) from error
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            time.sleep(_backoff(attempt))
            attempt += 1

    def pages(
        self, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The rows of a list, page after page, `limit` at most."""
        filters = {name: value for name, value in (params or {}).items() if value is not None}
        left, cursor = limit, None
        while left is None or left > 0:
            size = LARGEST_PAGE if left is None else min(left, LARGEST_PAGE)
            page = filters | {"limit": size} | ({"cursor": cursor} if cursor else {})
            body = self.send("GET", path, params=page).json()
            yield from body["data"][:left]
            left = None if left is None else left - len(body["data"])
            cursor = body.get("next_cursor")
            if not cursor:
                return

    def poll(self, path: str, timeout: float | None) -> Iterator[dict[str, Any]]:
        """The resource each time it changed, asked for as often as its `Retry-After` says.

        Raises:
            TimeoutError: `timeout` seconds went by, and the caller still wanted more.
        """
        end = None if timeout is None else time.monotonic() + timeout
        known: dict[str, str] = {}
        while True:
            response = self.send("GET", path, headers=known)
            if response.status_code != 304:
                yield response.json()
                known = {"If-None-Match": response.headers["etag"]} if "etag" in response.headers else {}
            pause = retry_after(response)
            pause = POLL_SECONDS if pause is None else pause
            if end is not None and time.monotonic() + pause > end:
                raise TimeoutError(f"{path} was not done after {timeout:g} s")
            time.sleep(pause)

    def _unreachable(self, error: BaseException | None) -> DiffinError:
        return DiffinError(
            Problem(f"no answer from {self.url} ({error}): is the service running there?", code="unreachable")
        )


def retry_after(response: httpx.Response | None) -> float | None:
    """Seconds that the answer's `Retry-After` asks to wait, as a number or a date; None without one."""
    value = response.headers.get("retry-after") if response is not None else None
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
    return min(max(seconds, 0.0), LONGEST_PAUSE)


def _may_pass(response: httpx.Response, attempt: int) -> bool:
    # On a second try, 409 with Retry-After means that our first one is still being answered.
    again = attempt > 0 and response.status_code == 409 and "retry-after" in response.headers
    return again or response.status_code in PASSING


def _backoff(attempt: int) -> float:
    return float(min(0.25 * 2**attempt, 8.0) * random.SystemRandom().uniform(0.5, 1.0))


class _Watched(io.FileIO):
    """A file that tells how much of it has been read, so of the body sent."""

    def __init__(self, path: Path, sent: Sent | None) -> None:
        super().__init__(path)
        self._sent = sent
        self._total = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes | Any:
        chunk = super().read(-1 if size is None else size)
        if self._sent:
            self._sent(self.tell(), self._total)
        return chunk
