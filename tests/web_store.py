"""A place on the web that gives a file, as it is told, and remembers who asked."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests import loopback

STEP = 64 * 1024


@dataclass
class WebStore:
    """Gives `content`, or the range asked for, at every path, with `status` and `headers`; None of a header
    leaves it out.

    `before(n)` is called before each step of a body, of which n bytes have gone.
    """

    content: bytes = b""
    status: int = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)
    before: Callable[[int], object] = lambda _sent: None
    url: str = ""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def serving(store: WebStore | None = None, trust: ssl.SSLContext | None = None) -> Iterator[WebStore]:
    """It on a free port of the loopback."""
    wanted = store or WebStore()

    class Handler(loopback.Quiet, BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._begin()

        def do_GET(self) -> None:
            content = self._begin()
            for start in range(0, len(content), STEP):
                wanted.before(start)
                self.wfile.write(content[start : start + STEP])

        def _begin(self) -> bytes:
            wanted.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            content, status, told = wanted.content, wanted.status, {}
            if (span := self.headers["Range"]) and status == 200:
                start, stop = (int(one) for one in span.removeprefix("bytes=").split("-"))
                told = {"Content-Range": f"bytes {start}-{stop}/{len(content)}"}
                content, status = content[start : stop + 1], 206
            headers = {"Content-Length": str(len(content)), **told, **wanted.headers}
            self.send_response(status)
            for name, value in headers.items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            return content

    with loopback.serving(Handler, trust) as address:
        wanted.url = f"{address}/"
        yield wanted
