"""Webhook endpoints and deliveries over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.store import sweeper, work
from app.store.tables import IdempotencyKey
from tests.api.front_end import Service, pages, pointers, problem, request_of

URL = "https://hooks.example.com/diffin"


def made(service: Service, **body: Any) -> dict[str, Any]:
    answer = service.http.post("/v1/webhook-endpoints", json={"url": URL} | body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def deliveries(service: Service, **query: Any) -> list[dict[str, Any]]:
    return pages(service.http, "/v1/webhook-deliveries", limit=2, **query)


def test_a_secret_is_shown_once(service: Service) -> None:
    created = made(service, events=["job.failed"], description="the channel", name="hook")
    path = f"/v1/webhook-endpoints/{created['id']}"
    assert created["secret"].startswith("whsec_")
    found = service.http.get(path).json()
    assert found == {name: value for name, value in created.items() if name != "secret"}
    assert service.http.get("/v1/webhook-endpoints").json()["data"] == [found]
    rotated = service.http.post(f"{path}/rotate-secret", json={"keep_old_hours": 2}).json()
    assert rotated["secret"] != created["secret"]
    expires = datetime.fromisoformat(rotated["previous_secret_expires_at"])
    assert timedelta(hours=1.9) < expires - datetime.now(UTC) < timedelta(hours=2.1)


def test_a_replayed_answer_holds_no_secret(service: Service) -> None:
    key = {"Idempotency-Key": "one-endpoint-please"}
    first = service.http.post("/v1/webhook-endpoints", json={"url": URL}, headers=key)
    again = service.http.post("/v1/webhook-endpoints", json={"url": URL}, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json() | {"secret": None}
    with service.database.snapshot() as session:
        kept = session.get_one(IdempotencyKey, (service.project_id, key["Idempotency-Key"]))
        assert first.json()["secret"] not in (kept.body or "")


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.com", "ftp://hooks.example.com", "https://user:word@hooks.example.com"),
        *("https://127.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/latest", "hooks.example.com"),
    ],
)
def test_where_nothing_would_be_sent_is_refused(service: Service, url: str) -> None:
    answer = service.http.post("/v1/webhook-endpoints", json={"url": url})
    assert pointers(problem(answer, 422, "unsafe_address")) == ["/url"]
    path = f"/v1/webhook-endpoints/{made(service)['id']}"
    problem(service.http.patch(path, json={"url": url}), 422, "unsafe_address")


def test_unknown_events_are_refused(service: Service) -> None:
    answer = service.http.post("/v1/webhook-endpoints", json={"url": URL, "events": ["job.exploded"]})
    assert pointers(problem(answer, 422, "validation_error")) == ["/events/0"]


def test_every_end_is_told(service: Service, inputs: dict[str, str]) -> None:
    made(service)
    job_id = service.http.post("/v1/jobs", json=request_of(inputs)).json()["id"]
    service.succeed(job_id)
    cancelled = service.http.post("/v1/jobs", json=request_of(inputs)).json()["id"]
    service.http.post(f"/v1/jobs/{cancelled}/cancel").raise_for_status()
    refused = service.upload(name="another")["id"]
    service.refuse(refused)
    checkpoint = service.checkpoint(inputs["trajectory_id"], 30)["id"]
    service.accept(checkpoint)
    found = {row["type"]: row for row in deliveries(service)}
    assert set(found) == {"job.succeeded", "job.cancelled", "dataset.invalid", "checkpoint.ready"}
    assert found["job.succeeded"]["payload"]["data"] == {
        "id": job_id,
        "status": "succeeded",
        "type": "influence",
    }
    assert found["job.cancelled"]["subject"] == cancelled
    assert found["dataset.invalid"]["payload"]["data"] == {"id": refused, "status": "invalid"}
    assert found["checkpoint.ready"]["payload"]["data"]["trajectory_id"] == inputs["trajectory_id"]
    assert {row["status"] for row in found.values()} == {"pending"}


FAULT = {"code": "worker_lost", "detail": "Every worker that took it died.", "fault": "service"}


def test_every_failure_is_told(service: Service, inputs: dict[str, str]) -> None:
    done, lost = (service.http.post("/v1/jobs", json=request_of(inputs)).json()["id"] for _ in range(2))
    service.succeed(done)
    made(service)
    wanted = {"type": "coreset", "size": 4}
    selection = service.http.post(f"/v1/jobs/{done}/selections", json=wanted).json()["id"]
    export = service.http.post("/v1/exports", json={"job_id": done, "format": "csv"}).json()["id"]
    with service.database.transaction() as session:
        for subject in (lost, selection, export):
            sweeper.give_up(session, service.blobs, subject, FAULT)
    service.refuse(checkpoint := service.checkpoint(inputs["trajectory_id"], 40)["id"])
    found = {row["type"]: row["payload"]["data"] for row in deliveries(service)}
    assert found == {
        "job.failed": {"id": lost, "status": "failed", "type": "influence"},
        "selection.failed": {"id": selection, "status": "failed", "type": "coreset", "job_id": done},
        "export.failed": {"id": export, "status": "failed", "format": "csv", "job_id": done},
        "checkpoint.invalid": {
            "id": checkpoint,
            "status": "invalid",
            "trajectory_id": inputs["trajectory_id"],
            "step": 40,
        },
    }


def test_what_did_not_come_to_pass_is_not_told(service: Service, job: dict[str, Any]) -> None:
    made(service)
    with pytest.raises(RuntimeError), service.database.transaction() as session:
        sweeper.give_up(session, service.blobs, job["id"], FAULT)
        raise RuntimeError("the commit never came")
    assert deliveries(service) == []
    assert service.http.get(f"/v1/jobs/{job['id']}").json()["status"] == "queued"


def test_deliveries_are_filtered_and_paged(service: Service, inputs: dict[str, str]) -> None:
    first, second = made(service), made(service, events=["dataset.ready"])
    for name in ("a", "b", "c"):
        service.validate(service.upload(name=name)["id"])
    assert len(deliveries(service)) == 6
    assert len(deliveries(service, endpoint_id=second["id"], status="pending", type="dataset.ready")) == 3
    assert deliveries(service, type="job.failed") == []
    (one,) = deliveries(service, endpoint_id=first["id"], subject=deliveries(service)[0]["subject"])
    assert service.http.get(f"/v1/webhook-deliveries/{one['id']}").json() == one


def test_a_change_to_another_version_is_refused(service: Service) -> None:
    path = f"/v1/webhook-endpoints/{made(service)['id']}"
    known = {"If-Match": service.http.get(path).headers["etag"]}
    changed = service.http.patch(path, json={"description": "first"}, headers=known)
    assert changed.status_code == 200
    late = service.http.patch(path, json={"disabled": True, "description": "second"}, headers=known)
    problem(late, 412, "precondition_failed")
    assert (told := service.http.get(path)).json()["description"] == "first" and not told.json()["disabled"]
    now = {"If-Match": changed.headers["etag"]}
    assert service.http.patch(path, json={"disabled": True}, headers=now).json()["disabled"]


@pytest.mark.parametrize(
    ("name", "time"), [("since", "9999-12-31T23:59:59-23:59"), ("until", "0001-01-01T00:00:00+23:59")]
)
def test_a_time_beyond_the_calendar_is_refused(service: Service, name: str, time: str) -> None:
    path = f"/v1/webhook-endpoints/{made(service)['id']}/replay"
    told = service.http.post(path, json={"since": "2026-01-01T00:00:00Z", name: time})
    problem(told, 422, "validation_error")
    assert f"/{name}" in told.text


def test_disabling_skips_and_replaying_sends(service: Service) -> None:
    endpoint = made(service)
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    service.validate(service.upload(name="before")["id"])
    assert service.http.patch(path, json={"disabled": True}).json()["disabled_reason"] == "asked"
    service.validate(service.upload(name="meanwhile")["id"])
    (newer, older) = deliveries(service)
    assert (newer["status"], older["status"]) == ("skipped", "skipped")
    with service.database.snapshot() as session:
        assert work.of(session, older["id"], "deliver") == []
    since = {"since": older["created_at"]}
    problem(service.http.post(f"{path}/replay", json=since), 409, "endpoint_disabled")
    problem(service.http.post(f"/v1/webhook-deliveries/{newer['id']}/redeliver"), 409, "endpoint_disabled")
    assert service.http.patch(path, json={"disabled": False}).json()["disabled_reason"] is None
    answer = service.http.post(f"{path}/replay", json=since)
    assert (answer.status_code, answer.json()) == (202, {"count": 2, "next_since": None})
    assert {row["status"] for row in deliveries(service)} == {"pending"}
    with service.database.snapshot() as session:
        assert len(work.of(session, older["id"], "deliver")) == 1
    again = service.http.post(f"/v1/webhook-deliveries/{older['id']}/redeliver")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    with service.database.snapshot() as session:
        assert len(work.of(session, older["id"], "deliver")) == 1  # it was pending anyway


def test_a_range_needs_its_zone(service: Service) -> None:
    path = f"/v1/webhook-endpoints/{made(service)['id']}/replay"
    body = problem(service.http.post(path, json={"since": "2026-11-25T00:00:00"}), 422, "validation_error")
    assert pointers(body) == ["/since"]


def test_deleting_takes_the_deliveries_along(service: Service) -> None:
    path = f"/v1/webhook-endpoints/{made(service)['id']}"
    service.validate(service.upload()["id"])
    (row,) = deliveries(service)
    assert service.http.delete(path).status_code == 204
    problem(service.http.get(path), 404, "not_found")
    assert deliveries(service) == []
    with service.database.snapshot() as session:
        assert work.of(session, row["id"], "deliver") == []


def test_another_project_sees_none_of_it(service: Service) -> None:
    endpoint = made(service)
    service.validate(service.upload()["id"])
    (row,) = deliveries(service)
    other = service.make_key(f"other-{endpoint['id']}", "admin", project_id="another")
    for method, path in (
        ("GET", f"/v1/webhook-endpoints/{endpoint['id']}"),
        ("DELETE", f"/v1/webhook-endpoints/{endpoint['id']}"),
        ("GET", f"/v1/webhook-deliveries/{row['id']}"),
        ("POST", f"/v1/webhook-deliveries/{row['id']}/redeliver"),
    ):
        problem(service.http.request(method, path, headers=other), 404, "not_found")
    assert service.http.get("/v1/webhook-deliveries", headers=other).json()["data"] == []
