"""Records written before a migration are still there after it, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import select, text

import migrations
from app.store import audit, figures, jobs, scores, webhooks, work
from app.store.db import Database
from app.store.tables import Checkpoint, Job, Work
from tests.servers import PostgresServer

FIRST = "1d49c7732088"
TIME = "2026-11-23 21:00:00.000000+00:00"
RECORDS = (
    "INSERT INTO trajectories (id, project_id, name, notes, metadata, created_at, architecture, task, "
    "preprocessing, optimizer) VALUES ('tr_1', 'p', 'run', '', '{}', :time, '{}', '{}', '{}', '{}')",
    "INSERT INTO checkpoints (id, trajectory_id, step, learning_rate, status, filename, bytes, sha256, info, "
    "created_at) VALUES ('ck_1', 'tr_1', 10, 0.1, 'ready', 'c', 1, 'x', '{}', :time)",
    "INSERT INTO jobs (id, project_id, name, notes, metadata, created_at, type, status, trajectory_id, "
    "method, seed, checkpoint_ids, attempt, completed, total) VALUES ('job_1', 'p', '', '', '{}', :time, "
    "'influence', 'succeeded', 'tr_1', '{}', 0, '[\"ck_1\"]', 1, 0, 0)",
)


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'old.db'}"


@pytest.fixture
def empty_postgres(postgres: PostgresServer) -> Iterator[str]:
    with postgres.fresh() as url:
        yield url


@pytest.fixture(params=["empty_sqlite", "empty_postgres"], ids=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A database of the first schema with a run and a job."""
    url: str = request.getfixturevalue(request.param)
    migrations.upgrade(url, FIRST)
    database = Database(url)
    with database.transaction() as session:
        for statement in RECORDS:
            session.execute(text(statement), {"time": TIME})
    database.engine.dispose()
    return url


def test_a_job_keeps_its_run_and_a_run_its_checkpoints(url: str) -> None:
    migrations.upgrade(url)
    migrations.check(url)
    database = Database(url)
    with database.snapshot() as session:
        job = session.get_one(Job, "job_1")
        assert (job.trajectory_id, job.trajectory_ids) == ("tr_1", ["tr_1"])
        assert jobs.using(session, trajectory_id="tr_1") == ["job_1"]
        assert session.get_one(Checkpoint, "ck_1").optimizer_file is None
        assert scores.moments(session, "job_1") is None
    database.engine.dispose()


def test_the_way_back_keeps_them_too(url: str) -> None:
    migrations.upgrade(url)
    command.downgrade(migrations.config(url), FIRST)
    database = Database(url)
    with database.snapshot() as session:
        found = session.execute(text("SELECT trajectory_id FROM jobs")).scalars().all()
        assert found == ["tr_1"]
    database.engine.dispose()
    migrations.upgrade(url)
    migrations.check(url)


def test_the_way_back_leaves_no_message_that_nobody_could_send(url: str) -> None:
    migrations.upgrade(url)
    database = Database(url)
    with database.transaction() as session:
        webhooks.create(session, project_id="p", url="https://a.example", events=[])
        session.flush()
        webhooks.emit(session, "p", "job.succeeded", {"id": "job_1", "status": "succeeded"})
        work.add(session, "validate", "ds_1", "p")
        about = {"project_id": "p", "method": "POST", "route": "/sign-in", "request_id": "req_1"}
        audit.begin(session, **about, key_id=None, status=401)
        audit.begin(session, **about, key_id="key_1", status=None)
        for row in session.scalars(select(Work)):
            row.context = {"request_id": "req_1"}
        figures.add(session, {figures.Key("samples_scored"): 3.0})
    command.downgrade(migrations.config(url), FIRST)
    with database.snapshot() as session:
        assert session.execute(text("SELECT kind FROM work")).scalars().all() == ["validate"]
    migrations.upgrade(url)
    with database.snapshot() as session:
        assert [row.subject for row in session.scalars(select(Work))] == ["ds_1"]
        assert webhooks.lag(session) == (0, 0.0)
        assert figures.read(session) == []
    database.engine.dispose()
