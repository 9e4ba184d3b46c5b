"""Exports over HTTP, but for the writing of them: asked for, followed, downloaded, expired, deleted."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.store import chosen, exports, selections, sweeper, work
from app.store.blobs import digest
from app.store.db import utcnow
from app.store.tables import Export
from app.store.work import Lease
from tests.api.front_end import N, Service, pages, pointers, problem

CONTENT = b"sample_index,score\r\n0,0.5\r\n"


@pytest.fixture
def done(service: Service, job: dict[str, Any]) -> str:
    """The id of a job that succeeded."""
    service.succeed(job["id"])
    job_id: str = job["id"]
    return job_id


def asked(service: Service, job_id: str, **fields: Any) -> dict[str, Any]:
    answer = service.http.post("/v1/exports", json={"job_id": job_id, "format": "csv"} | fields)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/exports/{answer.json()['id']}"
    assert answer.headers["retry-after"] == "1"
    body: dict[str, Any] = answer.json()
    return body


def write(service: Service, export_id: str, content: bytes = CONTENT) -> None:
    """A worker writes the export."""
    with service.database.transaction() as session:
        (unit,) = work.of(session, export_id, "export")
        claimed = work.claim(session, unit.id, unit.attempt, "a worker", 60)
        assert claimed is not None
        lease = Lease(unit.id, claimed.attempt, "a worker")
        exports.start(session, lease, export_id, 60)
    with service.blobs.stage() as staged, service.database.transaction() as session:
        staged.write_bytes(content)
        exports.finish(session, service.blobs, lease, export_id, staged, digest(staged), hours=1)


def files(service: Service) -> set[str]:
    return {str(path) for path in service.blobs.folder.rglob("*") if path.is_file()}


def test_an_export_is_queued_followed_and_downloaded(service: Service, done: str) -> None:
    export = asked(service, done, order="harmful", name="for people", metadata={"a": "b"})
    assert (export["status"], export["job_id"], export["order"]) == ("queued", done, "harmful")
    assert export["progress"] == {
        "completed": 0,
        "total": N,
        "unit": "rows",
        "message": "waiting for a worker",
    }
    path = f"/v1/exports/{export['id']}"
    assert service.http.get(path).headers["retry-after"] == "1"
    waiting = service.http.get(f"{path}/content")
    assert "queued" in problem(waiting, 409, "export_not_finished")["detail"]
    write(service, export["id"])
    answer = service.http.get(path)
    body = answer.json()
    assert (body["status"], body["bytes"], body["progress"]["completed"]) == ("succeeded", len(CONTENT), N)
    assert "retry-after" not in answer.headers
    assert body["expires_at"] > body["finished_at"]
    again = service.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    content = service.http.get(body["content_url"])
    assert content.content == CONTENT
    assert content.headers["etag"] == f'"{body["sha256"]}"'
    assert content.headers["content-type"].startswith("text/csv")
    assert content.headers["content-disposition"] == f'attachment; filename="{done}-scores.csv"'


def test_parts_of_the_content_and_only_what_changed_are_sent(service: Service, done: str) -> None:
    export = asked(service, done)
    write(service, export["id"])
    path = f"/v1/exports/{export['id']}/content"
    etag = service.http.get(path).headers["etag"]
    assert service.http.get(path, headers={"If-None-Match": etag}).status_code == 304
    part = service.http.get(path, headers={"Range": "bytes=7-11", "If-Range": etag})
    assert (part.status_code, part.content) == (206, CONTENT[7:12])
    assert part.headers["content-range"] == f"bytes 7-11/{len(CONTENT)}"
    other = service.http.get(path, headers={"Range": "bytes=7-11", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, CONTENT)
    beyond = service.http.get(path, headers={"Range": "bytes=999-"})
    problem(beyond, 416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize(
    ("asked_for", "part"),
    [
        ("bytes=0-0", CONTENT[:1]),
        ("bytes=5-", CONTENT[5:]),
        ("Bytes = -4", CONTENT[-4:]),
        ("bytes=-999", CONTENT),
        ("bytes=20-999", CONTENT[20:]),
        ("bytes=0-1,4-5", None),  # of several ranges, and of what is none, the whole
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("rows=0-1", None),
    ],
)
def test_a_download_goes_on_anywhere(service: Service, done: str, asked_for: str, part: bytes | None) -> None:
    export = asked(service, done)
    write(service, export["id"])
    answer = service.http.get(f"/v1/exports/{export['id']}/content", headers={"Range": asked_for})
    assert (answer.status_code, answer.content) == ((200, CONTENT) if part is None else (206, part))
    assert answer.headers["content-length"] == str(len(answer.content))


def test_jobs_without_scores_cannot_be_exported(service: Service, job: dict[str, Any]) -> None:
    answer = service.http.post("/v1/exports", json={"job_id": job["id"], "format": "csv"})
    problem(answer, 409, "job_not_finished")
    answer = service.http.post("/v1/exports", json={"job_id": "job_1", "format": "csv"})
    assert pointers(problem(answer, 404, "not_found")) == ["/job_id"]
    answer = service.http.post("/v1/exports", json={"job_id": job["id"], "format": "xlsx"})
    assert pointers(problem(answer, 422, "validation_error")) == ["/format"]


def test_a_selection_is_exported_once_it_has_succeeded(service: Service, done: str, tmp_path: Path) -> None:
    made = service.http.post(f"/v1/jobs/{done}/selections", json={"type": "coreset", "size": 4})
    selection_id = made.json()["id"]
    body = {"selection_id": selection_id, "format": "csv"}
    problem(service.http.post("/v1/exports", json=body), 409, "selection_not_finished")
    with service.database.transaction() as session:
        selection = selections.locked(session, selection_id)
        assert selection is not None
        chosen.write(tmp_path / "rows", chosen.rows(np.zeros(4, np.uint8), {"sample_index": range(4)}))
        selections.start(selection)
        selections.keep(session, service.blobs, selection, selections.ROWS, tmp_path / "rows")
        selection.size = 4
        selections.succeed(session, service.blobs, selection, {})
    answer = service.http.post("/v1/exports", json=body)
    assert answer.status_code == 202, answer.text
    export = answer.json()
    assert (export["selection_id"], export["job_id"], export["order"]) == (selection_id, done, "chosen")
    assert export["progress"]["total"] == 4
    write(service, export["id"], f"of {selection_id}".encode())
    content = service.http.get(f"/v1/exports/{export['id']}/content")
    assert content.headers["content-disposition"] == f'attachment; filename="{selection_id}.csv"'
    assert service.http.delete(f"/v1/selections/{selection_id}").status_code == 204
    problem(service.http.get(f"/v1/exports/{export['id']}"), 404, "not_found")


def test_an_export_is_of_one_job_or_one_selection(service: Service, done: str) -> None:
    for body in (
        {},
        {"job_id": done, "selection_id": "sel_1"},
        {"selection_id": "sel_1", "order": "index"},
    ):
        answer = service.http.post("/v1/exports", json={"format": "csv"} | body)
        problem(answer, 422, "validation_error")
    answer = service.http.post("/v1/exports", json={"format": "csv", "selection_id": "sel_1"})
    assert pointers(problem(answer, 404, "not_found")) == ["/selection_id"]


def test_an_order_that_was_not_computed_is_refused(service: Service, done: str) -> None:
    body = {"job_id": done, "format": "csv", "order": "self_influence"}
    answer = service.http.post("/v1/exports", json=body)
    assert pointers(problem(answer, 409, "not_computed")) == ["/order"]


def test_the_same_key_makes_one_export(service: Service, done: str) -> None:
    body, key = {"job_id": done, "format": "npz"}, {"Idempotency-Key": f"once-{time.time_ns()}"}
    first, again = (service.http.post("/v1/exports", json=body, headers=key) for _ in range(2))
    assert first.json() == again.json()
    assert len(pages(service.http, "/v1/exports")) == 1


def test_exports_are_listed_newest_first_and_by_job(service: Service, done: str) -> None:
    ids = [asked(service, done)["id"] for _ in range(3)]
    assert [row["id"] for row in pages(service.http, "/v1/exports", limit=2)] == ids[::-1]
    assert len(pages(service.http, "/v1/exports", job_id=done)) == 3
    assert pages(service.http, "/v1/exports", job_id="job_1") == []


def test_an_export_is_renamed(service: Service, done: str) -> None:
    path = f"/v1/exports/{asked(service, done)['id']}"
    assert service.http.patch(path, json={"name": "new", "metadata": {"a": "b"}}).json()["name"] == "new"
    body = service.http.get(path).json()
    assert (body["name"], body["metadata"]) == ("new", {"a": "b"})


def test_an_export_expires_and_its_bytes_go(service: Service, done: str) -> None:
    before = files(service)
    kept, gone = (asked(service, done)["id"] for _ in range(2))
    write(service, kept, f"of {kept}".encode())
    write(service, gone, f"of {gone}".encode())
    with service.database.transaction() as session:
        session.get_one(Export, gone).expires_at = utcnow() - timedelta(seconds=1)
    answer = service.http.get(f"/v1/exports/{gone}/content")
    problem(answer, 410, "export_expired")
    for _ in range(2):  # by the clock, and once a worker has tidied up
        body = service.http.get(f"/v1/exports/{gone}").json()
        assert (body["status"], body["content_url"]) == ("expired", None)
        assert body["progress"]["completed"] == N
        sweeper.tidy(service.database, service.blobs)
    assert len(files(service) - before) == 1
    assert service.http.get(f"/v1/exports/{kept}/content").text == f"of {kept}"
    problem(service.http.get(f"/v1/exports/{gone}/content"), 410, "export_expired")
    assert service.http.delete(f"/v1/exports/{gone}").status_code == 204


def test_deleting_takes_the_bytes_along_unless_another_export_has_them(service: Service, done: str) -> None:
    before = files(service)
    first, second = (asked(service, done)["id"] for _ in range(2))
    for one in (first, second):
        write(service, one, f"of {done}".encode())
    assert len(files(service) - before) == 1
    assert service.http.delete(f"/v1/exports/{first}").status_code == 204
    assert service.http.get(f"/v1/exports/{second}/content").text == f"of {done}"
    assert service.http.delete(f"/v1/exports/{second}").status_code == 204
    assert files(service) == before
    problem(service.http.get(f"/v1/exports/{second}"), 404, "not_found")
    problem(service.http.delete(f"/v1/exports/{second}"), 404, "not_found")


def test_a_deleted_job_takes_its_exports_along(service: Service, done: str) -> None:
    written, queued = (asked(service, done)["id"] for _ in range(2))
    write(service, written)
    assert service.http.delete(f"/v1/jobs/{done}").status_code == 204
    for export_id in (written, queued):
        problem(service.http.get(f"/v1/exports/{export_id}"), 404, "not_found")
    with service.database.snapshot() as session:
        assert work.of(session, queued, "export") == []


def test_another_project_sees_none_of_it(service: Service, done: str) -> None:
    export_id = asked(service, done)["id"]
    other = service.make_key(f"other-{time.time_ns()}", "admin", project_id="another")
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = service.http.request(method, f"/v1/exports/{export_id}{path}", headers=other)
        problem(answer, 404, "not_found")
    answer = service.http.post("/v1/exports", json={"job_id": done, "format": "csv"}, headers=other)
    problem(answer, 404, "not_found")


def test_an_export_that_no_worker_can_write_says_why(service: Service, done: str) -> None:
    export_id = asked(service, done)["id"]
    with service.database.transaction() as session:
        (unit,) = work.of(session, export_id, "export")
        work.claim(session, unit.id, unit.attempt, "a worker", 60)
        sweeper.put_back(session, service.blobs, unit, 1, {"code": "worker_lost", "detail": "It died."})
    body = service.http.get(f"/v1/exports/{export_id}").json()
    assert (body["status"], body["error"]["detail"]) == ("failed", "It died.")
    answer = service.http.get(f"/v1/exports/{export_id}/content")
    assert "failed" in problem(answer, 409, "export_not_finished")["detail"]
