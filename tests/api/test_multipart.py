"""Uploads: streamed to storage, refused in time, nothing left behind."""

from __future__ import annotations

import hashlib
import socket

import httpx
import pytest

from app.api.multipart import OVERHEAD, TEXT_BYTES
from tests.api.front_end import MAX_UPLOAD, Service, problem, wait_for

MULTIPART = {"Content-Type": "multipart/form-data; boundary=frontier"}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return b"--frontier\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


END = b"--frontier--\r\n"


def post(service: Service, *parts: bytes, end: bytes = END) -> httpx.Response:
    return service.http.post("/v1/datasets", content=b"".join(parts) + end, headers=MULTIPART)


def test_the_file_is_kept_byte_by_byte_under_its_digest(service: Service) -> None:
    content = b"\r\n--fronti" * 100_000 + b"\x00\r\n-"
    body = post(service, part("name", b"tricky"), part("file", content, "x.npz")).json()
    assert body["bytes"] == len(content)
    assert body["sha256"] == hashlib.sha256(content).hexdigest()
    with service.database.snapshot() as session:
        assert service.blobs.path(session, body["sha256"]).read_bytes() == content


def test_the_fields_may_follow_the_file(service: Service) -> None:
    answer = post(service, part("file", b"content", "x.npz"), part("name", b"late"))
    assert answer.json()["name"] == "late"


def test_a_filename_is_kept_without_its_folders(service: Service) -> None:
    answer = post(service, part("name", b"n"), part("file", b"content", "../../etc/x.npz"))
    assert answer.json()["filename"] == "x.npz"


def test_an_empty_file_is_refused(service: Service) -> None:
    problem(post(service, part("name", b"n"), part("file", b"", "x.npz")), 422, "empty_file")


def test_a_missing_file_is_refused(service: Service) -> None:
    body = problem(post(service, part("name", b"n")), 422, "validation_error")
    assert body["errors"][0]["pointer"] == "/file"


def test_two_files_are_refused(service: Service) -> None:
    file = part("file", b"content", "x.npz")
    problem(post(service, part("name", b"n"), file, file), 422, "validation_error")


def test_a_file_under_another_name_is_refused(service: Service) -> None:
    problem(post(service, part("name", b"n"), part("data", b"content", "x.npz")), 422, "validation_error")


def test_a_missing_an_unknown_and_a_doubled_field_are_refused(service: Service) -> None:
    file = part("file", b"content", "x.npz")
    for fields in ([], [part("name", b"n"), part("colour", b"red")], [part("name", b"n")] * 2):
        problem(post(service, *fields, file), 422, "validation_error")


def test_metadata_come_as_json(service: Service) -> None:
    file, name = part("file", b"content", "x.npz"), part("name", b"n")
    assert post(service, name, part("metadata", b'{"git": "abc"}'), file).json()["metadata"] == {"git": "abc"}
    body = problem(post(service, name, part("metadata", b"{"), file), 422, "validation_error")
    assert body["errors"][0]["pointer"] == "/metadata"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no multipart at all",
        part("file", b"content", "x.npz"),  # no closing boundary
        b"--frontier\r\nContent-Disposition: form-data\r\n\r\nnameless\r\n" + END,
        b"--frontier\r\nX" + b"y" * 100_000,
        part("name", b"\xff\xfe") + END,
    ],
)
def test_a_malformed_body_is_refused(service: Service, content: bytes) -> None:
    problem(post(service, content, end=b""), 400, "invalid_multipart")


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 300])
def test_a_missing_or_endless_boundary_is_refused(service: Service, kind: str) -> None:
    answer = service.http.post("/v1/datasets", content=b"x", headers={"Content-Type": kind})
    problem(answer, 400, "invalid_multipart")


def test_another_media_type_is_refused(service: Service) -> None:
    plain = service.http.post("/v1/datasets", content=b"x", headers={"Content-Type": "text/plain"})
    problem(plain, 415, "unsupported_media_type")


def test_a_file_over_the_limit_is_refused_while_it_arrives(service: Service) -> None:
    answer = post(service, part("name", b"n"), part("file", bytes(MAX_UPLOAD + 1), "x.npz"))
    assert f"{MAX_UPLOAD:,}" in problem(answer, 413, "payload_too_large")["detail"]


def test_a_file_of_exactly_the_limit_is_taken(service: Service) -> None:
    assert post(service, part("name", b"n"), part("file", bytes(MAX_UPLOAD), "x.npz")).status_code == 202


def test_a_body_over_the_limit_is_refused_by_its_length_before_it_comes(service: Service) -> None:
    length = 2 * MAX_UPLOAD + OVERHEAD + 1  # a data set and its tokenizer
    head = (
        f"POST /v1/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.project_id}\r\n"
        f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: {length}\r\n\r\n"
    )
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_long_text_fields_are_refused(service: Service) -> None:
    problem(post(service, part("notes", b"x" * (TEXT_BYTES + 1))), 413, "payload_too_large")
    problem(post(service, *(part(f"f{i}", b"") for i in range(33))), 413, "payload_too_large")


def test_long_and_many_headers_of_a_part_are_refused(service: Service) -> None:
    head = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.npz"\r\n'
    for more in (b"X-Long: " + b"y" * 10_000 + b"\r\n", b"X-Many: y\r\n" * 20):
        body = head + more + b"\r\nx\r\n" + END
        answer = service.http.post("/v1/datasets", content=body, headers=MULTIPART)
        problem(answer, 400, "invalid_multipart")


def test_a_client_that_goes_away_leaves_nothing(service: Service) -> None:
    head = (
        f"POST /v1/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.project_id}\r\n"
        f"Content-Type: {MULTIPART['Content-Type']}\r\nContent-Length: 1000000\r\n\r\n"
    )
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(head.encode() + part("file", bytes(100_000), "x.npz"))
        wait_for(lambda: len(service.staged()) == 1)
    wait_for(lambda: service.staged() == [])
    assert service.http.get("/v1/datasets").json()["data"] == []
