"""Many clients of a service from one process, each with a connection of its own, and what they waited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Asked:
    """One request: what kind, how it was answered (0: not at all), and how long that took."""

    kind: str
    status: int
    seconds: float


@dataclass(frozen=True)
class Request:
    """A request to be sent, named by its kind."""

    kind: str
    method: str
    path: str
    body: bytes = b""


class Connection:
    """HTTP/1.1 kept alive, as little of it as the service speaks: the clients share the cores with it."""

    def __init__(self, url: str, key: str) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._head = (
            f"Host: {self._host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request, started: float | None = None) -> tuple[Asked, bytes]:
        """(what it took, counted from `started` if that is given, and the answer's body)."""
        started = time.perf_counter() if started is None else started
        try:
            status, body = await self._exchange(request)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            status, body = 0, b""
        return Asked(request.kind, status, time.perf_counter() - started), body

    async def _exchange(self, request: Request) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = f"{request.method} {request.path} HTTP/1.1\r\n{self._head}"
        writer.write(f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body)
        told = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(told.partition("content-length:")[2].split("\r\n")[0] or 0)
        return int(told.split(" ", 2)[1]), await reader.readexactly(length)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def in_turns(
    url: str, key: str, clients: int, seconds: float, following: Callable[[], Request]
) -> list[Asked]:
    """Each client asks, waits for the answer, and asks again at once."""
    found: list[Asked] = []
    until = time.perf_counter() + seconds

    async def one() -> None:
        connection = Connection(url, key)
        while time.perf_counter() < until:
            found.append((await connection.ask(following()))[0])
        connection.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return found


async def at_a_rate(
    url: str, key: str, clients: int, rate: float, seconds: float, following: Callable[[], Request]
) -> list[Asked]:
    """So many requests a second, whatever their answers take: each is timed from the moment it was due, also
    when no client was free to send it.
    """
    found: list[Asked] = []
    began, number = time.perf_counter(), iter(range(int(rate * seconds)))

    async def one() -> None:
        connection = Connection(url, key)
        for turn in number:
            due = began + turn / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            found.append((await connection.ask(following(), due))[0])
        connection.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return found


def milliseconds(found: Sequence[Asked], share: float) -> float:
    """The time within which this share of them was answered."""
    return 1000 * float(np.quantile([one.seconds for one in found], share))


def errors(found: Sequence[Asked]) -> list[Asked]:
    """Those that were not answered as they should have been."""
    return [one for one in found if not 200 <= one.status < 300]
