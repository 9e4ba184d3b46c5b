"""PostgreSQL away for a while: requests are told so, in words and with a time, and streams wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

import migrations
from app.api import events
from app.main import create_app
from app.settings import Settings
from app.store import jobs
from app.store.db import Database
from tests import servers
from tests.api.front_end import RUN, Service, bearer, listening, parsed_events, problem
from tests.servers import PostgresServer

KEY = "a key of these tests"
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One of these tests' own, to be stopped and started."""
    with servers.postgres(synchronous_commit="on") as server:  # what was committed is there after a crash
        yield server


@pytest.fixture
def service(server: PostgresServer, tmp_path: Path) -> Iterator[Service]:
    with server.fresh() as url:
        migrations.upgrade(url)
        settings = Settings(data_dir=tmp_path, database_url=url, api_key=SecretStr(KEY))
        app = create_app(settings)
        with (
            listening(app) as address,
            httpx.Client(base_url=address, headers=bearer(KEY), timeout=30) as http,
        ):
            yield Service(app, settings, http, "default")


def test_requests_are_told_when_to_come_again_and_a_post_that_does_is_done_once(
    server: PostgresServer, service: Service
) -> None:
    once, http = {"Idempotency-Key": "one-run"}, service.http
    server.control("stop", "--mode", "immediate")
    for answer in (http.get("/v1/trajectories"), http.post("/v1/trajectories", json=RUN, headers=once)):
        body = problem(answer, 503, "database_away")
        assert answer.headers["retry-after"] == "1" and "Idempotency-Key" in body["detail"]
    assert http.get("/livez").status_code == 200
    server.control("start")
    made = [http.post("/v1/trajectories", json=RUN, headers=once) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json()["id"] == made[1].json()["id"]
    assert len(http.get("/v1/trajectories").json()["data"]) == 1


def test_a_restart_between_two_requests_is_not_noticed(server: PostgresServer, service: Service) -> None:
    for mode in ("immediate", "fast"):
        assert service.http.get("/v1/trajectories").status_code == 200
        server.control("restart", "--mode", mode)
        assert service.http.get("/v1/trajectories").status_code == 200


def test_what_is_missing_in_the_database_is_no_outage(service: Service) -> None:
    with service.database.transaction() as session:
        session.execute(text("DROP TABLE uploads CASCADE"))
    problem(service.http.get("/v1/uploads"), 500, "internal_error")


def test_so_it_is_with_sqlite(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, api_key=SecretStr(KEY))
    migrations.upgrade(settings.database_url)
    app = create_app(settings)
    with listening(app) as url, httpx.Client(base_url=url, headers=bearer(KEY)) as http:
        file = tmp_path / "diffin.db"
        app.state.database.engine.dispose()
        file.rename(away := tmp_path / "away")
        file.mkdir()  # what cannot be opened
        problem(http.get("/v1/uploads"), 503, "database_away")
        file.rmdir()
        away.rename(file)
        assert http.get("/v1/uploads").status_code == 200
        database = Database(settings.database_url)
        with database.transaction() as session:
            session.execute(text("DROP TABLE uploads"))
        database.engine.dispose()
        problem(http.get("/v1/uploads"), 500, "internal_error")


def test_a_stream_of_events_waits_for_the_database(server: PostgresServer, service: Service) -> None:
    with service.database.transaction() as session:
        asked: dict[str, Any] = {"method": {"name": "loss"}, "seed": 0, "checkpoint_ids": ["ck"]}
        job_id = jobs.create(session, project_id="default", type="influence", **asked).id

    def restart_and_end() -> None:
        time.sleep(events.POLL_SECONDS)
        server.control("stop", "--mode", "immediate")
        time.sleep(2 * events.POLL_SECONDS)
        server.control("start")
        service.succeed(job_id)

    other = threading.Thread(target=restart_and_end)
    other.start()
    with service.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=EVENTS) as answer:
        found = parsed_events(list(answer.iter_lines()))
    other.join()
    assert [event["event"] for event in found] == ["job.queued", "job.started", "job.succeeded"]
