"""How long the server waits for those who connect, and how many may."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_DESCRIPTORS = 65_536


def patient(seconds: float) -> type[H11Protocol]:
    """The HTTP protocol, hanging up on who has not sent a whole request's headers after so many seconds.

    Uvicorn itself limits what it keeps of headers that are not whole yet (64 KiB), and how long a
    connection may idle between requests.
    """

    class Patient(H11Protocol):
        _hang_up: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._busy():
                self._stop_waiting()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._busy():
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            self._stop_waiting()
            self._hang_up = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._hang_up is not None:
                self._hang_up.cancel()
                self._hang_up = None

        def _give_up(self) -> None:
            if not self._busy():
                self.transport.abort()

    return Patient


def allow_connections() -> None:
    """Lets this process have as many files and connections open as the system allows it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = MOST_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, MOST_DESCRIPTORS)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
