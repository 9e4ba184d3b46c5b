"""What happened to a job: as a list, and as a stream that follows it to its end."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

from app.api import events as routes
from app.store import events, work
from tests.api.front_end import Service, pages, parsed_events, problem, wait_for

STREAM = {"Accept": "text/event-stream"}


def streamed(service: Service, job: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    """The events of the stream, read to its end."""
    with service.http.stream("GET", f"/v1/jobs/{job['id']}/events", headers=STREAM | headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "no-store" in answer.headers["cache-control"]
        return parsed_events(list(answer.iter_lines()))


def test_the_list_tells_what_happened_in_order(service: Service, job: dict[str, Any]) -> None:
    service.succeed(job["id"])
    rows = pages(service.http, f"/v1/jobs/{job['id']}/events", limit=2)
    assert [row["type"] for row in rows] == ["job.queued", "job.started", "job.succeeded"]
    assert rows[0]["data"] == {"status": "queued"}
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)


def test_a_stream_of_a_finished_job_tells_all_and_ends(service: Service, job: dict[str, Any]) -> None:
    service.succeed(job["id"])
    found = streamed(service, job)
    assert [event["event"] for event in found] == ["job.queued", "job.started", "job.succeeded"]
    listed = service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert [event["data"] for event in found] == listed
    assert [event["id"] for event in found] == [str(row["id"]) for row in listed]


def test_a_stream_follows_the_job_to_its_end(service: Service, job: dict[str, Any]) -> None:
    def work_on_it() -> None:
        time.sleep(0.3)
        service.start(job["id"], done=10, total=100)
        time.sleep(routes.POLL_SECONDS * 2)
        with service.database.transaction() as session:
            work.of(session, job["id"], "plan")[0].completed = 60
        time.sleep(routes.POLL_SECONDS * 2)
        service.succeed(job["id"])

    worker = threading.Thread(target=work_on_it)
    worker.start()
    found = streamed(service, job)
    worker.join()
    assert [event["event"] for event in found if "id" in event] == [
        "job.queued",
        "job.started",
        "job.succeeded",
    ]
    between = [event for event in found if "id" not in event]
    assert {event["event"] for event in between} == {"job.progress"}
    assert between[-1]["data"]["data"]["completed"] == 60


def test_a_stream_goes_on_after_the_last_event_seen(service: Service, job: dict[str, Any]) -> None:
    service.succeed(job["id"])
    first, *rest = streamed(service, job)
    assert streamed(service, job, **{"Last-Event-ID": first["id"]}) == rest
    assert streamed(service, job, **{"Last-Event-ID": rest[-1]["id"]}) == []
    assert len(streamed(service, job, **{"Last-Event-ID": "nonsense"})) == 3
    path = f"/v1/jobs/{job['id']}/events"
    assert len(service.http.get(path, headers={"Last-Event-ID": first["id"]}).json()["data"]) == 2


def test_a_long_story_is_told_whole(
    service: Service, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "BATCH", 3)
    monkeypatch.setattr(routes, "POLL_SECONDS", 0.01)
    with service.database.transaction() as session:
        for step in range(10):
            events.append(session, job["id"], "job.progress", {"completed": step})
    service.succeed(job["id"])
    assert len(streamed(service, job)) == 13


def test_a_quiet_stream_shows_that_it_lives(
    service: Service, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(routes, "POLL_SECONDS", 0.05)
    with service.http.stream("GET", f"/v1/jobs/{job['id']}/events", headers=STREAM) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith(":")) == ": still here"


def test_a_client_that_goes_away_ends_the_polling(
    service: Service, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    look = routes._look

    def counted(*args: Any) -> Any:
        looks.append(time.monotonic())
        return look(*args)

    monkeypatch.setattr(routes, "_look", counted)
    monkeypatch.setattr(routes, "POLL_SECONDS", 0.02)
    with service.http.stream("GET", f"/v1/jobs/{job['id']}/events", headers=STREAM) as answer:
        next(answer.iter_lines())
    wait_for(lambda: time.monotonic() - looks[-1] > 0.3)


def test_the_stream_ends_when_the_job_is_deleted(
    service: Service, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "POLL_SECONDS", 1.0)
    with service.http.stream("GET", f"/v1/jobs/{job['id']}/events", headers=STREAM) as answer:
        lines = answer.iter_lines()
        next(lines)
        service.http.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
        service.http.delete(f"/v1/jobs/{job['id']}").raise_for_status()
        assert not any("job.cancelled" in line for line in lines)


def test_a_stream_of_an_unknown_job_is_a_problem(service: Service) -> None:
    answer: httpx.Response = service.http.get("/v1/jobs/job_of_nobody/events", headers=STREAM)
    problem(answer, 404, "not_found")
