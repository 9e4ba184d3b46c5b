"""An HTTP server that receives webhooks, answers as it is told, and remembers what came."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from tests import loopback

Answer = Callable[[int], tuple[int, dict[str, str]]]


@dataclass
class Receiver:
    """`answer(n)` gives the status and headers for the n-th message that comes, counted from 0."""

    answer: Answer = lambda _n: (204, {})
    seconds: float = 0.0
    url: str = ""
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def verified(self, secret: str) -> list[dict[str, Any]]:
        """What the messages say, each checked against the secret as receivers do."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.came]

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.came]

    def wait_for(self, count: int, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while len(self.came) < count:
            assert time.monotonic() < end, f"{len(self.came)} of {count} messages came in {seconds} s"
            time.sleep(0.02)


def certified(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(what a server called `name` shows, what trusts it), with files in `folder`."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject]
    subprocess.run(command, check=True, capture_output=True)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    return served, ssl.create_default_context(cafile=certificate)


@contextmanager
def receiving(receiver: Receiver | None = None, trust: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port of the loopback."""
    wanted = receiver or Receiver()

    class Handler(loopback.Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with wanted.lock:
                number = len(wanted.came)
                wanted.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
            time.sleep(wanted.seconds)
            status, headers = wanted.answer(number)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with loopback.serving(Handler, trust) as address:
        wanted.url = f"{address}/hook"
        yield wanted
