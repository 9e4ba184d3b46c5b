"""Scores written ahead, batch by batch, into the embedded database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from app.store import figures, jobs, score_rows, scores, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Job, Score
from app.store.work import Lease, LeaseLostError

JOB: dict[str, Any] = {"type": "influence", "method": {"name": "loss"}, "seed": 0, "checkpoint_ids": []}


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    yield database
    database.engine.dispose()


@pytest.fixture
def lease(database: Database) -> tuple[str, Lease]:
    """A running job, and the lease of its unit."""
    with database.transaction() as session:
        job = jobs.create(session, project_id="p", **JOB)
        session.flush()
        unit = work.next_of(session, job.id)
        assert unit is not None and work.claim(session, unit.id, 1, "a", 60)
        jobs.start(session, job, 1)
    return job.id, Lease(unit.id, 1, "a")


def columns(n: int) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    score = draw.normal(size=n)
    return {
        "sample_index": np.arange(n),
        "sample_id": np.array([f"s{i}" for i in range(n)]),
        "score": score,
        "rank": scores.ranks(score),
        "label": np.arange(n) % 3.0,
        "predicted_label": None,
        "loss": draw.exponential(size=n),
        "contributions": draw.normal(size=(n, 2)),
        "losses": np.ones((n, 2)),
    }


def rows(database: Database, job_id: str) -> list[tuple[Any, ...]]:
    with database.snapshot() as session:
        query = select(*Score.__table__.columns).where(Score.job_id == job_id).order_by(Score.sample_index)
        return [tuple(row)[1:] for row in session.execute(query)]


def count(database: Database) -> int:
    with database.snapshot() as session:
        return session.execute(select(func.count()).select_from(Score)).scalar_one()


def test_the_rows_are_those_of_one_transaction(database: Database, lease: tuple[str, Lease]) -> None:
    job_id, mine = lease
    wanted = columns(2 * score_rows.ROWS + 7)
    with database.transaction() as session:
        scores.write(session, "job_other", wanted)
    for _ in range(2):  # as another attempt does, after one that broke off
        assert score_rows.ahead(database, mine, job_id, wanted, lambda: None)
        assert rows(database, job_id) == rows(database, "job_other")


def test_who_lost_the_lease_writes_nothing_more(
    database: Database, blobs: BlobStore, lease: tuple[str, Lease]
) -> None:
    job_id, mine = lease
    batches = 0

    def fails() -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            assert count(database) == score_rows.ROWS
            with database.transaction() as session:
                jobs.fail(session, blobs, session.get_one(Job, job_id), {"code": "worker_lost"})

    with pytest.raises(LeaseLostError):
        score_rows.ahead(database, mine, job_id, columns(3 * score_rows.ROWS), fails)
    assert count(database) == 0, "a job that failed keeps no scores"


def test_others_write_meanwhile(database: Database, lease: tuple[str, Lease]) -> None:
    job_id, mine = lease
    waited: list[float] = []
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.01):
            began = time.monotonic()
            with database.transaction() as session:
                figures.add(session, {figures.Key("samples_scored"): 1.0})
            waited.append(time.monotonic() - began)

    other = threading.Thread(target=write)
    other.start()
    began = time.monotonic()
    score_rows.ahead(database, mine, job_id, columns(10 * score_rows.ROWS), lambda: None)
    took = time.monotonic() - began
    over.set()
    other.join()
    print(f"{len(waited)} writes in {took:.1f} s, the longest took {max(waited):.2f} s")
    assert len(waited) > 10 and max(waited) < took / 2
