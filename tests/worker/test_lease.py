"""The renewal of a lease: it holds while work goes on, reports progress, and says when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from app.store import jobs, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Job, Work
from app.store.work import Lease, LeaseLostError
from worker import lease
from worker.lease import CancelledError, Renewal, StoppingError

SECONDS = 1.0


@pytest.fixture
def renewal(database: Database) -> Renewal:
    """The lease of a running job's only unit."""
    with database.transaction() as session:
        job = jobs.create(
            session, project_id="p", type="influence", method={"name": "loss"}, seed=0, checkpoint_ids=[]
        )
        session.flush()
        row = work.next_of(session, job.id)
        assert row is not None
        row.total = 100
        session.flush()
        assert work.claim(session, row.id, 1, "a", SECONDS)
        jobs.start(session, job, 1)
    return Renewal(database, row, Lease(row.id, 1, "a"), SECONDS)


def raises_soon(tick: Callable[[], None]) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        tick()
        time.sleep(0.02)


def test_a_kept_lease_outlives_its_seconds_and_reports_progress(database: Database, renewal: Renewal) -> None:
    with renewal.kept():
        renewal.tick(40)
        time.sleep(1.5 * SECONDS)
        renewal.tick(2)
        with database.snapshot() as session:
            assert work.overdue(session) == []
            assert session.get_one(Work, renewal.lease.work_id).completed == 40


def test_it_says_that_the_lease_went_to_somebody_else(database: Database, renewal: Renewal) -> None:
    with renewal.kept(), pytest.raises(LeaseLostError):
        with database.transaction() as session:
            session.get_one(Work, renewal.lease.work_id).attempt = 2
        raises_soon(renewal.tick)


def test_it_says_that_the_job_is_being_cancelled(
    database: Database, blobs: BlobStore, renewal: Renewal
) -> None:
    with renewal.kept(), pytest.raises(CancelledError):
        with database.transaction() as session:
            subject = session.get_one(Work, renewal.lease.work_id).subject
            jobs.cancel(session, blobs, session.get_one(Job, subject))
        raises_soon(renewal.tick)


def test_it_gives_a_worker_that_is_to_stop_some_seconds(
    database: Database, renewal: Renewal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "GRACE_SECONDS", 0.6)
    renewal._stopping.set()
    with renewal.kept(), pytest.raises(StoppingError):
        began = time.monotonic()
        renewal.tick()
        raises_soon(renewal.tick)
    assert time.monotonic() - began > 0.6
