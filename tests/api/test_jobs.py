"""Jobs over HTTP: created, followed, cancelled, deleted."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.store import jobs, work
from tests.api.front_end import Service, pages, pointers, problem, request_of, scored


def test_a_job_is_accepted_with_its_options_filled_in_and_its_checkpoints_frozen(
    service: Service, inputs: dict[str, str]
) -> None:
    body = request_of(
        inputs, method={"name": "diff_in"}, name="why?", notes="n", metadata={"git": "abc"}, seed=3
    )
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "1"
    assert job["status"] == "queued"
    assert (job["name"], job["notes"], job["metadata"], job["seed"]) == ("why?", "n", {"git": "abc"}, 3)
    assert job["method"]["lanczos_steps"] == 10
    assert {name: job[name] for name in inputs} == inputs
    trajectory = service.http.get(f"/v1/trajectories/{inputs['trajectory_id']}").json()
    assert job["checkpoint_ids"] == [one["id"] for one in trajectory["checkpoints"]]
    assert job["progress"] == {
        "completed": 0,
        "total": 0,
        "unit": "forward_passes",
        "message": "waiting for a worker",
    }


def test_more_samples_than_sqlite_bears_are_refused_with_advice(
    service: Service, inputs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = service.http.get(f"/v1/datasets/{inputs['train_dataset_id']}").json()
    monkeypatch.setattr(service.settings, "sqlite_samples", train["num_samples"])
    assert service.http.post("/v1/jobs", json=request_of(inputs)).status_code == 202
    monkeypatch.setattr(service.settings, "sqlite_samples", train["num_samples"] - 1)
    for path in ("/v1/jobs", "/v1/jobs/estimate"):
        told = problem(service.http.post(path, json=request_of(inputs)), 422, "too_many_samples")
        assert "PostgreSQL" in told["detail"]
        assert pointers(told) == ["/train_dataset_id"]


def test_a_job_rings_the_doorbell(service: Service, job: dict[str, Any]) -> None:
    with service.database.snapshot() as session:
        unit = work.of(session, job["id"], "plan")[0]
    folder = service.settings.data_dir / "broker" / "messages"
    bodies = [base64.b64decode(json.loads(path.read_text())["body"]) for path in folder.iterdir()]
    assert any(unit.id.encode() in body for body in bodies)


def test_the_method_defaults_to_diff_in(service: Service, inputs: dict[str, str]) -> None:
    body = {"type": "influence", **inputs}
    assert service.http.post("/v1/jobs", json=body).json()["method"]["name"] == "diff_in"


def test_a_checkpoint_that_comes_later_is_no_part_of_the_job(service: Service, job: dict[str, Any]) -> None:
    service.checkpoint(job["trajectory_id"], 30)
    assert len(service.http.get(f"/v1/jobs/{job['id']}").json()["checkpoint_ids"]) == 2


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"type": "magic"}, "/type", "validation_error"),
        ({"type": None}, "/type", "validation_error"),
        ({"method": {"name": "astrology"}}, "/method", "unknown_method"),
        ({"method": {}}, "/method/name", "validation_error"),
        ({"method": {"name": "diff_in", "colour": 1}}, "/method/colour", "validation_error"),
        ({"method": {"name": "diff_in", "lanczos_steps": 0}}, "/method/lanczos_steps", "validation_error"),
        ({"seed": -1}, "/seed", "validation_error"),
        ({"seed": 2**63}, "/seed", "validation_error"),
        ({"colour": 1}, "/colour", "validation_error"),
        ({"query": {"labels": []}}, "/query/labels", "validation_error"),
        ({"query": {"indices": [-1]}}, "/query/indices/0", "validation_error"),
        ({"metadata": {"a" * 65: ""}}, "/metadata/" + "a" * 65, "validation_error"),
    ],
)
def test_a_jobs_field_at_fault_is_pointed_at(
    service: Service, inputs: dict[str, str], changes: dict[str, Any], pointer: str, code: str
) -> None:
    answer = service.http.post("/v1/jobs", json=request_of(inputs) | changes)
    assert pointer in pointers(problem(answer, 422, code))


def test_a_running_job_tells_its_progress_and_its_end(service: Service, job: dict[str, Any]) -> None:
    service.start(job["id"], done=250, total=1000)
    body = service.http.get(f"/v1/jobs/{job['id']}").json()
    assert body["status"] == "running"
    assert (body["progress"]["completed"], body["progress"]["total"]) == (250, 1000)
    started, end = (datetime.fromisoformat(body[name]) for name in ("started_at", "estimated_finish_at"))
    assert end > started
    listed = service.http.get("/v1/jobs").json()["data"]
    assert listed[0]["progress"] == body["progress"]


def test_polling_is_cheap_until_something_changed(service: Service, job: dict[str, Any]) -> None:
    path = f"/v1/jobs/{job['id']}"
    service.start(job["id"], done=250, total=1000)
    first = service.http.get(path)
    assert first.headers["retry-after"] == "1"
    same = {"If-None-Match": first.headers["etag"]}
    assert service.http.get(path, headers=same).status_code == 304
    service.succeed(job["id"])
    done = service.http.get(path, headers=same)
    assert (done.status_code, done.json()["status"]) == (200, "succeeded")
    assert "retry-after" not in done.headers


def test_a_finished_job_has_its_result(service: Service, job: dict[str, Any]) -> None:
    service.succeed(job["id"], warnings=[{"code": "near_instability", "detail": "…"}])
    body = service.http.get(f"/v1/jobs/{job['id']}").json()
    assert body["result"]["warnings"][0]["code"] == "near_instability"
    assert body["finished_at"] is not None and body["estimated_finish_at"] is None


def test_a_failed_job_carries_its_problem(service: Service, job: dict[str, Any]) -> None:
    error = {"code": "non_finite", "detail": "A score is not finite.", "fault": "user"}
    with service.database.transaction() as session:
        row = jobs.locked(session, job["id"])
        assert row is not None
        jobs.fail(session, service.blobs, row, error)
    body = service.http.get(f"/v1/jobs/{job['id']}").json()
    assert (body["status"], body["error"]) == ("failed", error)


def test_the_list_can_be_filtered(service: Service, inputs: dict[str, str]) -> None:
    made = [service.http.post("/v1/jobs", json=request_of(inputs)).json()["id"] for _ in range(3)]
    service.succeed(made[1])
    found = {
        "": made[::-1],
        "?status=queued": [made[2], made[0]],
        "?status=succeeded": [made[1]],
        "?type=influence": made[::-1],
        f"?trajectory_id={inputs['trajectory_id']}": made[::-1],
        "?trajectory_id=tr_other": [],
    }
    for query, ids in found.items():
        rows = service.http.get(f"/v1/jobs{query}").json()["data"]
        assert [row["id"] for row in rows] == ids
    assert [row["id"] for row in pages(service.http, "/v1/jobs", status="queued", limit=1)] == [
        made[2],
        made[0],
    ]


def cancel(service: Service, job: dict[str, Any]) -> httpx.Response:
    return service.http.post(f"/v1/jobs/{job['id']}/cancel")


def test_a_queued_job_is_cancelled_at_once(service: Service, job: dict[str, Any]) -> None:
    first, again = cancel(service, job), cancel(service, job)
    assert (first.status_code, first.json()["status"]) == (202, "cancelled")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


def test_a_running_job_is_cancelled_after_the_block_in_hand(service: Service, job: dict[str, Any]) -> None:
    service.start(job["id"])
    for _ in range(2):
        answer = cancel(service, job)
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")


def test_a_finished_job_cannot_be_cancelled(service: Service, job: dict[str, Any]) -> None:
    service.succeed(job["id"])
    problem(cancel(service, job), 409, "job_finished")


def test_only_a_finished_job_can_be_deleted(service: Service, job: dict[str, Any]) -> None:
    path = f"/v1/jobs/{job['id']}"
    problem(service.http.delete(path), 409, "job_running")
    service.succeed(job["id"], scored(2))
    assert service.http.delete(path).status_code == 204
    for gone in (path, f"{path}/scores", f"{path}/summary", f"{path}/events"):
        problem(service.http.get(gone), 404, "not_found")


def test_a_job_can_be_renamed_while_it_runs(service: Service, job: dict[str, Any]) -> None:
    service.start(job["id"])
    body = service.http.patch(f"/v1/jobs/{job['id']}", json={"notes": "look again"}).json()
    assert (body["notes"], body["status"]) == ("look again", "running")
