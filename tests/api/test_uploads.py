"""Files in parts over HTTP: parts in any order, resumed, completed, taken over, gone."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from datetime import timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from app.store import sweeper
from app.store.db import utcnow
from app.store.tables import Upload
from tests.api.front_end import Service, pages, pointers, problem

PART = 64 * 1024
CONTENT = np.random.default_rng(0).bytes(3 * PART - 1000)
PARTS = {1: CONTENT[:PART], 2: CONTENT[PART : 2 * PART], 3: CONTENT[2 * PART :]}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def begun(service: Service, size: int = len(CONTENT), **fields: Any) -> str:
    body = {"filename": "d.npz", "bytes": size, "part_bytes": PART} | fields
    answer = service.http.post("/v1/uploads", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/uploads/{answer.json()['id']}"
    upload_id: str = answer.json()["id"]
    return upload_id


def put(service: Service, upload_id: str, number: int, content: bytes, **headers: str) -> httpx.Response:
    return service.http.put(f"/v1/uploads/{upload_id}/parts/{number}", content=content, headers=headers)


def send(service: Service, upload_id: str, *numbers: int) -> None:
    for number in numbers:
        answer = put(service, upload_id, number, PARTS[number])
        assert (answer.status_code, answer.content) == (204, b""), answer.text
        assert answer.headers["etag"] == f'"{sha256(PARTS[number])}"'


def complete(service: Service, upload_id: str) -> httpx.Response:
    return service.http.post(f"/v1/uploads/{upload_id}/complete")


def blob(service: Service, content: bytes) -> list[bytes]:
    """The files that hold this content as a blob."""
    return [path.read_bytes() for path in service.blobs.folder.glob(f"*/{sha256(content)}-*")]


def coming(service: Service, upload_id: str) -> bool:
    return (service.blobs.incoming / upload_id).exists()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1, 2)], ids=str)
def test_parts_in_any_order_are_the_file(service: Service, order: tuple[int, ...]) -> None:
    upload_id = begun(service, sha256=sha256(CONTENT), name="mine", metadata={"a": "b"})
    send(service, upload_id, *order)
    body = service.http.get(f"/v1/uploads/{upload_id}").json()
    assert (body["status"], body["num_parts"], body["received_bytes"]) == ("receiving", 3, len(CONTENT))
    done = complete(service, upload_id)
    assert done.status_code == 200, done.text
    assert (done.json()["status"], done.json()["sha256"]) == ("complete", sha256(CONTENT))
    assert complete(service, upload_id).json() == done.json()
    assert blob(service, CONTENT) == [CONTENT]
    assert not coming(service, upload_id)


def test_an_upload_tells_which_parts_are_there(service: Service) -> None:
    upload_id = begun(service)
    path = f"/v1/uploads/{upload_id}"
    empty = service.http.get(path)
    assert empty.json()["parts"] == []
    send(service, upload_id, 1, 3)
    answer = service.http.get(path, headers={"If-None-Match": empty.headers["etag"]})
    assert [(part["number"], part["bytes"], part["sha256"]) for part in answer.json()["parts"]] == [
        (number, len(PARTS[number]), sha256(PARTS[number])) for number in (1, 3)
    ]
    refused = problem(complete(service, upload_id), 409, "parts_missing")
    assert refused["missing"] == [2] and "2" in refused["detail"]
    send(service, upload_id, 2)
    assert complete(service, upload_id).status_code == 200


def test_a_part_that_is_sent_again_replaces_the_first(service: Service) -> None:
    upload_id = begun(service, sha256=sha256(CONTENT))
    assert put(service, upload_id, 1, bytes(PART)).status_code == 204
    send(service, upload_id, 2, 3)
    refused = problem(complete(service, upload_id), 422, "digest_mismatch")
    assert sha256(CONTENT) in refused["detail"]
    send(service, upload_id, 1)
    assert complete(service, upload_id).json()["sha256"] == sha256(CONTENT)


@pytest.mark.parametrize("size", [0, 5, PART - 1, PART + 1, 3 * PART])
def test_a_part_of_another_size_is_refused(service: Service, size: int) -> None:
    upload_id = begun(service)
    refused = put(service, upload_id, 1, bytes(size))
    assert f"{PART:,}" in problem(refused, 422, "part_size_mismatch")["detail"]

    def unsized() -> Any:
        yield bytes(size)

    answer = service.http.put(f"/v1/uploads/{upload_id}/parts/1", content=unsized())
    assert answer.status_code in (413, 422), answer.text
    assert service.http.get(f"/v1/uploads/{upload_id}").json()["parts"] == []


def test_a_part_with_another_digest_is_refused(service: Service) -> None:
    upload_id = begun(service)

    def told(content: bytes) -> dict[str, str]:
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        return {"Content-Digest": f"sha-256=:{digest}:"}

    problem(put(service, upload_id, 1, PARTS[1], **told(b"other")), 422, "digest_mismatch")
    assert service.http.get(f"/v1/uploads/{upload_id}").json()["parts"] == []
    assert put(service, upload_id, 1, PARTS[1], **told(PARTS[1])).status_code == 204
    for header in ("sha-256=:aGk=:", "md5=:aGk=:", "nonsense"):
        refused = put(service, upload_id, 1, PARTS[1], **{"Content-Digest": header})
        assert pointers(problem(refused, 422, "validation_error")) == ["header:content-digest"]


def test_parts_that_are_none_are_not_found(service: Service) -> None:
    upload_id = begun(service)
    assert "1 to 3" in problem(put(service, upload_id, 4, b"x"), 404, "not_found")["detail"]
    problem(put(service, upload_id, 0, b"x"), 422, "validation_error")
    problem(put(service, "up_1", 1, b"x"), 404, "not_found")
    problem(complete(service, "up_1"), 404, "not_found")


def test_nothing_is_added_to_a_complete_upload(service: Service) -> None:
    upload_id = begun(service)
    send(service, upload_id, 1, 2, 3)
    complete(service, upload_id)
    problem(put(service, upload_id, 1, PARTS[1]), 409, "upload_complete")
    assert len(service.http.get(f"/v1/uploads/{upload_id}").json()["parts"]) == 3


def test_two_requests_do_not_write_to_one_part(service: Service) -> None:
    """The first one hangs in the middle: the second is sent away, and let in once the first is gone."""
    upload_id = begun(service)
    host, port = service.url.removeprefix("http://").split(":")
    head = f"PUT /v1/uploads/{upload_id}/parts/2 HTTP/1.1\r\nHost: x\r\nContent-Length: {PART}\r\n"
    head += f"Authorization: {service.http.headers['authorization']}\r\n\r\n"
    with socket.create_connection((host, int(port))) as hanging:
        hanging.sendall(head.encode() + PARTS[2][:1000])
        time.sleep(0.3)
        answer = put(service, upload_id, 2, PARTS[2])
        problem(answer, 409, "part_in_flight")
        assert answer.headers["retry-after"] == "1"
        send(service, upload_id, 1, 3)
        problem(complete(service, upload_id), 409, "part_in_flight")
    end = time.monotonic() + 10
    while put(service, upload_id, 2, PARTS[2]).status_code != 204:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert complete(service, upload_id).json()["sha256"] == sha256(CONTENT)


def test_parts_may_come_side_by_side(service: Service) -> None:
    upload_id = begun(service)
    threads = [threading.Thread(target=send, args=(service, upload_id, number)) for number in PARTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert complete(service, upload_id).json()["sha256"] == sha256(CONTENT)


def test_the_same_content_is_kept_once_and_goes_with_the_last_that_names_it(service: Service) -> None:
    content = np.random.default_rng(7).bytes(1000)
    ids = [begun(service, len(content)) for _ in range(3)]
    for upload_id in ids:
        assert put(service, upload_id, 1, content).status_code == 204
    threads = [threading.Thread(target=complete, args=(service, upload_id)) for upload_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for upload_id in ids:
        assert service.http.get(f"/v1/uploads/{upload_id}").json()["status"] == "complete"
        assert blob(service, content) == [content]
        assert service.http.delete(f"/v1/uploads/{upload_id}").status_code == 204
        problem(service.http.get(f"/v1/uploads/{upload_id}"), 404, "not_found")
    assert blob(service, content) == []


def test_what_lost_its_bytes_on_the_disk_is_sent_again(service: Service) -> None:
    """A machine that lost its power may have kept the row of a part and not its bytes."""
    upload_id = begun(service)
    send(service, upload_id, 1, 2, 3)
    with (service.blobs.incoming / upload_id).open("r+b") as file:
        file.seek(PART)
        file.write(bytes(100))
    service.app.state.digests.forget(upload_id)  # another process goes on
    assert problem(complete(service, upload_id), 409, "parts_missing")["missing"] == [2]
    send(service, upload_id, 2)
    assert complete(service, upload_id).json()["sha256"] == sha256(CONTENT)
    assert blob(service, CONTENT) == [CONTENT]


def test_an_upload_nobody_goes_on_with_goes_with_its_bytes(service: Service) -> None:
    gone, kept = begun(service), begun(service)
    for upload_id in (gone, kept):
        send(service, upload_id, 1)
    with service.database.transaction() as session:
        session.get_one(Upload, gone).expires_at = utcnow() - timedelta(seconds=1)
    sweeper.tidy(service.database, service.blobs)
    problem(service.http.get(f"/v1/uploads/{gone}"), 404, "not_found")
    assert (coming(service, gone), coming(service, kept)) == (False, True)
    with service.database.snapshot() as session:
        service.blobs.collect(session, older_than=-1)
    send(service, kept, 2, 3)
    assert complete(service, kept).json()["sha256"] == sha256(CONTENT)


def test_deleting_an_upload_takes_its_parts_along(service: Service) -> None:
    upload_id = begun(service)
    send(service, upload_id, 1)
    assert coming(service, upload_id)
    assert service.http.delete(f"/v1/uploads/{upload_id}").status_code == 204
    assert not coming(service, upload_id)
    problem(put(service, upload_id, 2, PARTS[2]), 404, "not_found")


def test_uploads_are_listed_renamed_and_seen_by_their_project_alone(service: Service) -> None:
    ids = [begun(service) for _ in range(3)]
    assert [row["id"] for row in pages(service.http, "/v1/uploads", limit=2)] == ids[::-1]
    assert pages(service.http, "/v1/uploads", status="complete") == []
    path = f"/v1/uploads/{ids[0]}"
    assert service.http.patch(path, json={"name": "new"}).json()["name"] == "new"
    other = service.make_key(f"other-{time.time_ns()}", "admin", project_id="another")
    for method, where in (("GET", ""), ("PUT", "/parts/1"), ("POST", "/complete"), ("DELETE", "")):
        answer = service.http.request(method, path + where, headers=other)
        problem(answer, 404, "not_found")


def test_files_that_are_too_large_are_refused_at_once(service: Service) -> None:
    body = {"filename": "d.npz", "bytes": service.settings.max_resumable_bytes + 1}
    refused = service.http.post("/v1/uploads", json=body)
    assert pointers(problem(refused, 413, "payload_too_large")) == ["/bytes"]
    limits = service.http.get("/v1/capabilities").json()["limits"]
    assert limits["max_resumable_bytes"] == service.settings.max_resumable_bytes
    for wrong in ({"bytes": 0}, {"filename": "a/b"}, {"sha256": "x"}, {"part_bytes": 1}):
        refused = service.http.post("/v1/uploads", json={"filename": "d.npz", "bytes": 5} | wrong)
        assert pointers(problem(refused, 422, "validation_error")) == [f"/{next(iter(wrong))}"]


def test_a_large_file_has_parts_of_a_number_that_can_be_counted(service: Service) -> None:
    size = 40 * 1024**3
    body = {"filename": "d.npz", "bytes": size, "part_bytes": PART}
    answer = service.http.post("/v1/uploads", json=body)
    assert answer.status_code in (201, 507)
    if answer.status_code == 201:
        assert answer.json()["num_parts"] <= 10_000
        assert answer.json()["part_bytes"] * answer.json()["num_parts"] >= size
