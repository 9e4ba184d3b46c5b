"""Records written before a migration are still there after it, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import select, text

import migrations
from app.store import audit, datasets, figures, jobs, scores, webhooks, work
from app.store.db import Database
from app.store.fetching import Wanted
from app.store.tables import Blob, Checkpoint, Dataset, Job, Work
from tests.servers import PostgresServer

FIRST = "1d49c7732088"
BEFORE_URIS = "a41c7be2d08f"
TIME = "2026-11-23 21:00:00.000000+00:00"
RECORDS = (
    "INSERT INTO trajectories (id, project_id, name, notes, metadata, created_at, architecture, task, "
    "preprocessing, optimizer) VALUES ('tr_1', 'p', 'run', '', '{}', :time, '{}', '{}', '{}', '{}')",
    "INSERT INTO checkpoints (id, trajectory_id, step, learning_rate, status, filename, bytes, sha256, info, "
    "created_at) VALUES ('ck_1', 'tr_1', 10, 0.1, 'ready', 'c', 1, 'x', '{}', :time)",
    "INSERT INTO datasets (id, project_id, name, notes, metadata, created_at, status, format, filename, "
    "bytes, sha256, info) VALUES ('ds_1', 'p', 'set', '', '{}', :time, 'ready', 'npz', 'd.npz', 1, 'x', "
    "'{}')",
    "INSERT INTO jobs (id, project_id, name, notes, metadata, created_at, type, status, trajectory_id, "
    "train_dataset_id, method, seed, checkpoint_ids, attempt, completed, total) VALUES ('job_1', 'p', '', "
    "'', '{}', :time, 'influence', 'succeeded', 'tr_1', 'ds_1', '{}', 0, '[\"ck_1\"]', 1, 0, 0)",
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
        assert session.get_one(Dataset, "ds_1").filename == "d.npz"
        assert jobs.using(session, trajectory_id="tr_1") == ["job_1"]
        checkpoint = session.get_one(Checkpoint, "ck_1")
        assert (checkpoint.optimizer_file, checkpoint.name, checkpoint.meta) == (None, "", {})
        assert scores.one(session, "job_1", 0) is None
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


BEFORE_SHARED = "7d2f60c3b915"
ROWS = (
    "INSERT INTO scores (job_id, sample_index, score, rank, loss, contributions, losses, suspicion) "
    "SELECT '{job}', i, i / 7.0, i + 1, 0.5, decode('0000000000000840', 'hex'), '\\x00', .5 "
    "FROM generate_series(0, {last}) i"
)


def test_large_and_small_jobs_keep_their_scores_on_the_way_and_back(empty_postgres: str) -> None:
    migrations.upgrade(empty_postgres, BEFORE_SHARED)
    database, sizes = Database(empty_postgres), {"job_a-1": 3, "job_b": 50_001, "job_c": 2}

    def tables() -> set[str]:
        with database.snapshot() as session:
            return set(
                session.execute(
                    text("SELECT tablename FROM pg_tables WHERE tablename ~ '^scores_'")
                ).scalars()
            )

    def told() -> dict[str, tuple[Any, ...]]:
        query = "SELECT job_id, count(*), sum(score), sum(rank) FROM scores GROUP BY job_id"
        with database.snapshot() as session:
            return {row[0]: tuple(row[1:]) for row in session.execute(text(query))}

    alone = {f"scores_{job.replace('-', '_')}" for job in sizes}
    with database.transaction() as session:
        for job, size in sizes.items():
            name = f"scores_{job.replace('-', '_')}"
            session.execute(text(f"CREATE TABLE {name} PARTITION OF scores FOR VALUES IN ('{job}')"))
            session.execute(text(ROWS.format(job=job, last=size - 1)))
    before = told()
    assert {job: found[0] for job, found in before.items()} == sizes
    for _ in range(2):
        migrations.upgrade(empty_postgres)
        migrations.check(empty_postgres)
        assert told() == before
        assert tables() == {"scores_small", "scores_large", "scores_job_b"}
        with database.snapshot() as session:
            for job, size in sizes.items():
                row = scores.one(session, job, size - 1)
                assert row is not None
                assert (row.rank, scores.contributions(row), row.large) == (size, [3.0], size > 50_000)
        command.downgrade(migrations.config(empty_postgres), BEFORE_SHARED)
        assert told() == before
        assert tables() == alone
    database.engine.dispose()


def test_the_way_back_refuses_what_nobody_has_fetched_yet(url: str) -> None:
    migrations.upgrade(url)
    database = Database(url)
    about: dict[str, Any] = {"project_id": "p", "format": "npz", "filename": "a.npz", "bytes": 0}
    with database.transaction() as session:
        wanted = {"file": Wanted(uri="s3://data/a.npz", most=1)}
        coming = datasets.create(session, "", wanted=wanted, uri="s3://data/a.npz", **about)
        blob = Blob(sha256="0" * 64, bytes=1, location="00/0")
        session.add(blob)
        session.flush()
        sent = datasets.create(session, blob.sha256, **about)
        session.flush()
        session.get_one(Job, "job_1").train_dataset_id = sent.id  # which no table may be written anew beneath
    command.downgrade(migrations.config(url), BEFORE_URIS)
    with database.snapshot() as session:
        found = session.execute(text("SELECT id, status FROM datasets ORDER BY id")).all()
        assert found == [(coming.id, "invalid"), (sent.id, "validating"), ("ds_1", "ready")]
        assert session.execute(text("SELECT subject, kind FROM work")).all() == [(sent.id, "validate")]
    migrations.upgrade(url)
    with database.snapshot() as session:
        error = session.get_one(Dataset, coming.id).error
        assert error is not None and error["code"] == "not_fetched"
        assert session.get_one(Job, "job_1").train_dataset_id == sent.id
    database.engine.dispose()
