"""A small HTTP server on a free port of the loopback, which answers as its handler does."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Quiet(BaseHTTPRequestHandler):
    """Says nothing on standard error, and bears with clients that go away."""

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # who asked went away: what some tests are about
            self.close_connection = True


@contextmanager
def serving(handler: type[Quiet], trust: ssl.SSLContext | None = None) -> Iterator[str]:
    """Its address, without a slash at its end; by https where `trust` is what it shows."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if trust is not None:
            server.socket = trust.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http{'s' if trust else ''}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
