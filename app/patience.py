"""How long the server waits for those who connect, how much of what they send it keeps, and how many may."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_DESCRIPTORS = 65_536
MOST_UNREAD = 64 * 1024  # bytes


def patient(seconds: float) -> type[HttpToolsProtocol]:
    """The HTTP protocol, hanging up on who has not sent a whole request's headers after so many seconds, and
    on who sends `MOST_UNREAD` bytes that nothing comes of: headers, a chunk's extension, trailers that do not
    end. The parser would go on reading them.

    Uvicorn itself limits how long a connection may idle between requests.
    """

    class Patient(HttpToolsProtocol):
        _hang_up: asyncio.TimerHandle | None = None
        _unread = 0  # bytes since something came of them
        _in_head = True

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # A Transfer-Encoding beside a length, or an unknown one, is refused in words: see `OneMeaning`.
            self.parser.set_dangerous_leniencies(lenient_chunked_length=True)
            self._wait()

        def data_received(self, data: bytes) -> None:
            self._unread += len(data)
            super().data_received(data)
            if self._busy():
                self._stop_waiting()
            if self._unread > MOST_UNREAD and not self.transport.is_closing():
                self.send_400_response("Headers or trailers of the request do not end.")

        def on_message_begin(self) -> None:
            self._in_head = True
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._in_head:  # a trailer comes when headers have been looked at, by a proxy say: it is none
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._unread, self._in_head = 0, False
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unread = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._unread = 0
            super().on_message_complete()

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
