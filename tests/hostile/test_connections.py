"""Hostile bytes on a connection: where a request ends, what follows it, and what never ends."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests import walk
from tests.api.test_request_limits import received
from tests.services import Service

SMUGGLED = b"GET /v1/capabilities HTTP/1.1\r\nHost: x\r\nX-Smuggled: yes\r\n\r\n"
CHUNKED = b"0\r\n\r\n"
UNCLEAR = {  # headers, and a body that some take to end before SMUGGLED and others behind it
    "both lengths": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", CHUNKED),
    "both lengths, the other way round": (b"Transfer-Encoding: chunked\r\nContent-Length: 200", CHUNKED),
    "both lengths in capitals": (b"TRANSFER-ENCODING: CHUNKED\r\nCONTENT-LENGTH: 5", CHUNKED),
    "both lengths, of nothing": (b"Content-Length: 0\r\nTransfer-Encoding: chunked", CHUNKED),
    "two encodings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CHUNKED),
    "an encoding nobody has": (b"Transfer-Encoding: xchunked", CHUNKED),
    "an encoding on top": (b"Transfer-Encoding: gzip, chunked", CHUNKED),
    "an encoding behind a vertical tab": (b"Transfer-Encoding: \x0bchunked", CHUNKED),
    "a space before the colon": (b"Content-Length: 5\r\nTransfer-Encoding : chunked", CHUNKED),
    "two lengths": (b"Content-Length: 0\r\nContent-Length: 70", b""),
    "two lengths in one": (b"Content-Length: 0, 70", b""),
    "a length with a sign": (b"Content-Length: +0", b""),
    "a chunk of a negative size": (b"Transfer-Encoding: chunked", b"-1\r\n\r\n"),
    "a chunk of a size with a prefix": (b"Transfer-Encoding: chunked", b"0x0\r\n\r\n"),
}


def raw(service: Service, request: bytes) -> bytes:
    """All that the server says to these bytes until it hangs up, or goes on waiting for more."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return received(connection)


@pytest.mark.parametrize("headers", [b"Content-Length: 1000000000000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("path", "status"),
    [(b"POST /v1/datasets", b"401"), (b"PUT /v1/uploads/up_1/parts/1", b"401"), (b"GET /livez", b"200"), (b"POST /no", b"404")],
)  # fmt: skip
def test_a_body_that_nobody_reads_is_not_swallowed(
    embedded_service: Service, path: bytes, status: bytes, headers: bytes
) -> None:
    host, port = embedded_service.url.removeprefix("http://").split(":")
    chunk = b"%x\r\n%b\r\n" % (2**20, bytes(2**20))
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"%b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (path, headers))
        connection.sendall(chunk[: 2**17])
        answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 %b " % status) and b"\r\nconnection: close\r\n" in answer.lower()
        with pytest.raises(ConnectionError):
            connection.sendall(chunk[2**17 :])
            for _ in range(64):
                connection.sendall(chunk)


def test_who_sends_a_large_body_for_nothing_is_told_why(embedded_service: Service) -> None:
    stranger = {"Authorization": "Bearer nobody"}
    for _ in range(10):
        with httpx.Client(base_url=embedded_service.url, headers=stranger, timeout=30) as client:
            answer = client.post("/v1/datasets", files={"file": ("d.npz", bytes(2**24))}, data={"name": "d"})
        assert (answer.status_code, answer.headers["connection"]) == (401, "close")


def test_a_body_that_nobody_reads_and_that_drips_is_not_waited_for(embedded_service: Service) -> None:
    head = b"POST /v1/datasets HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n{"
    for more in (b"Content-Length: 1000", b"Content-Length: 1000\r\nExpect: 100-continue"):
        answer = raw(embedded_service, head % more)
        assert answer.startswith(b"HTTP/1.1 401 ") and b"\r\nconnection: close\r\n" in answer.lower()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("unclear", UNCLEAR)
def test_a_request_whose_end_is_not_clear_is_the_last_of_its_connection(
    embedded_service: Service, unclear: str, version: bytes
) -> None:
    headers, content = UNCLEAR[unclear]
    head = b"POST /v1/trajectories HTTP/%b\r\nHost: x\r\nConnection: keep-alive\r\n%b\r\n\r\n"
    answer = raw(embedded_service, head % (version, headers) + content + SMUGGLED)
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 501), answer
    assert answer.count(b"HTTP/1.1 ") == 1, "what came behind it was not looked at"
    if unclear.startswith("both"):
        assert b"\r\nconnection: close\r\n" in answer.lower() and b"ambiguous_length" in answer


ENDLESS = {  # what comes before, and what may come for ever
    "a header": (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x" * 8192),
    "headers": (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"X-Short: y\r\n" * 700),
    "an address": (b"GET /", b"x" * 8192),
    "a chunk's extension": (
        b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"x" * 8192,
    ),
    "a trailer": (
        b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ",
        b"x" * 8192,
    ),
}


@pytest.mark.parametrize("endless", ENDLESS)
def test_what_does_not_end_is_not_kept(embedded_service: Service, endless: str) -> None:
    """The server hangs up long before its time is over."""
    head, more = ENDLESS[endless]
    host, port = embedded_service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head)
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                connection.sendall(more)


def test_a_trailer_is_no_header(embedded_service: Service) -> None:
    head = b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n"
    key = f"Authorization: Bearer {embedded_service.key}\r\n".encode()
    assert raw(embedded_service, head + key + b"\r\n").startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("hosts", [b"", b"Host: x\r\nHost: y\r\n"])
def test_a_request_is_for_one_host(embedded_service: Service, hosts: bytes) -> None:
    answer = raw(embedded_service, b"GET /livez HTTP/1.1\r\n" + hosts + b"\r\n" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1


def test_an_encoding_that_http_1_0_does_not_know_is_refused(embedded_service: Service) -> None:
    head = b"POST /v1/trajectories HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw(embedded_service, head + CHUNKED + SMUGGLED)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "length", [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
)
def test_either_length_alone_is_taken_and_the_connection_kept(
    embedded_service: Service, length: bytes
) -> None:
    head = b"POST /v1/trajectories HTTP/1.1\r\nHost: x\r\n"
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(embedded_service, head + length + last)
    assert answer.startswith(b"HTTP/1.1 401 ") and b"HTTP/1.1 200 " in answer


def test_requests_that_wait_behind_others_are_not_read_ahead(embedded_service: Service) -> None:
    """Who sends without end waits for the answers: the server keeps no heap of what it will come to."""
    many = b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n" * 10_000
    host, port = embedded_service.url.removeprefix("http://").split(":")
    before = resident(embedded_service)
    with socket.create_connection((host, int(port))) as connection:
        connection.setblocking(False)
        end, sent = time.monotonic() + 5, 0
        while time.monotonic() < end and sent < 50 * len(many):
            with suppress(BlockingIOError):
                sent += connection.send(many)
            with suppress(BlockingIOError):
                connection.recv(2**20)
            time.sleep(0.001)
    assert resident(embedded_service) - before < 64 * 2**20


def resident(service: Service) -> int:
    """Bytes of memory that the service's process has."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_a_body_behind_an_upgrade_is_no_request(embedded_service: Service) -> None:
    """A proxy that passes `Upgrade` on takes what follows for the requests of whoever sent them."""
    host, port = embedded_service.url.removeprefix("http://").split(":")
    key = f"Host: x\r\nAuthorization: Bearer {embedded_service.key}\r\n".encode()
    content = json.dumps({"name": "smuggled", "scopes": ["read"]}).encode()
    json_of = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    inner = b"POST /v1/api-keys HTTP/1.1\r\n" + key + json_of % len(content) + content
    outer = b"POST /v1/jobs HTTP/1.1\r\n" + key + json_of % len(inner)
    upgrade = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection, suppress(ConnectionError):
        connection.sendall(upgrade + outer)
        time.sleep(0.4)
        connection.sendall(inner)
        connection.settimeout(2)
        with suppress(TimeoutError):
            received(connection)
    with embedded_service.client() as client:
        keys = walk.ok(client.get("/v1/api-keys", params={"limit": 1000}), 200)["data"]
    assert "smuggled" not in {one["name"] for one in keys}


def test_a_request_is_answered_though_the_next_is_none(embedded_service: Service) -> None:
    answer = raw(embedded_service, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"\x16\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.count(b"HTTP/1.1 400 ") == 1
