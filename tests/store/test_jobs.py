"""The states of a job, and the one end each job has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from app.store import events, jobs, sweeper, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Job, Work
from app.store.work import Lease

ERROR = {"code": "non_finite", "detail": "…", "fault": "user"}


@pytest.fixture
def job_id(database: Database) -> str:
    with database.transaction() as session:
        return jobs.create(
            session, project_id="p", type="influence", method={"name": "loss"}, seed=0, checkpoint_ids=[]
        ).id


def start(database: Database, job_id: str) -> Lease:
    """Claims the job's first queued unit as a worker does."""
    with database.transaction() as session:
        job = jobs.locked(session, job_id)
        row = work.next_of(session, job_id)
        assert job is not None and row is not None
        assert work.claim(session, row.id, row.attempt, "a", 60)
        assert jobs.start(session, job, row.attempt)
        return Lease(row.id, row.attempt, "a")


def status(database: Database, job_id: str) -> str:
    with database.snapshot() as session:
        return session.get_one(Job, job_id).status


def types(database: Database, job_id: str) -> list[str]:
    with database.snapshot() as session:
        return [event.type for event in events.listed(session, job_id)]


def units(database: Database, job_id: str) -> int:
    with database.snapshot() as session:
        query = select(func.count()).select_from(Work).where(Work.subject == job_id)
        return session.execute(query).scalar_one()


def test_a_job_runs_from_queued_to_succeeded(database: Database, blobs: BlobStore, job_id: str) -> None:
    assert status(database, job_id) == "queued"
    lease = start(database, job_id)
    assert status(database, job_id) == "running"
    with database.transaction() as session:
        job = jobs.locked(session, job_id)
        assert job is not None
        jobs.set_plan(job, {"chunk": 8}, 100)
        work.finish(session, lease)
        jobs.succeed(session, blobs, job, {"num_samples": 1})
    assert status(database, job_id) == "succeeded"
    assert types(database, job_id) == ["job.queued", "job.started", "job.succeeded"]
    assert units(database, job_id) == 0


def test_a_queued_job_is_cancelled_at_once(database: Database, blobs: BlobStore, job_id: str) -> None:
    with database.transaction() as session:
        assert jobs.cancel(session, blobs, session.get_one(Job, job_id))
    assert status(database, job_id) == "cancelled"
    with database.transaction() as session:
        assert not jobs.cancel(session, blobs, session.get_one(Job, job_id))
    assert types(database, job_id) == ["job.queued", "job.cancelled"]
    assert units(database, job_id) == 0


def test_a_running_job_is_cancelled_when_its_unit_lets_go(
    database: Database, blobs: BlobStore, job_id: str
) -> None:
    lease = start(database, job_id)
    with database.transaction() as session:
        work.add(session, "block", job_id, "p")
        jobs.cancel(session, blobs, session.get_one(Job, job_id))
    assert status(database, job_id) == "cancelling"
    assert units(database, job_id) == 1
    with database.transaction() as session:
        job = jobs.locked(session, job_id)
        assert job is not None
        session.delete(session.get_one(Work, lease.work_id))
        session.flush()
        jobs.settle_cancelled(session, blobs, job)
    assert status(database, job_id) == "cancelled"


def test_a_running_unit_that_ends_after_the_cancel_ends_the_job(
    database: Database, blobs: BlobStore, job_id: str
) -> None:
    lease = start(database, job_id)
    with database.transaction() as session:
        jobs.cancel(session, blobs, session.get_one(Job, job_id))
    with database.transaction() as session:
        job = jobs.locked(session, job_id)
        assert job is not None
        work.finish(session, lease)
        jobs.stage_done(session, blobs, job, "plan")
    assert status(database, job_id) == "cancelled"
    assert units(database, job_id) == 0


def test_a_job_left_cancelling_is_settled_by_the_tidying(
    database: Database, blobs: BlobStore, job_id: str
) -> None:
    with database.transaction() as session:
        session.get_one(Job, job_id).status = "cancelling"
        work.drop(session, job_id)
    sweeper.tidy(database, blobs)
    assert status(database, job_id) == "cancelled"


def test_a_cancelled_job_whose_worker_died_is_settled_by_the_sweeper(
    database: Database, blobs: BlobStore, job_id: str
) -> None:
    lease = start(database, job_id)
    with database.transaction() as session:
        jobs.cancel(session, blobs, session.get_one(Job, job_id))
        session.get_one(Work, lease.work_id).lease_expires_at = 0
    sweeper.sweep(database, blobs, max_attempts=3, lease_seconds=60)
    assert status(database, job_id) == "cancelled"


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_a_finished_job_cannot_be_cancelled(
    database: Database, blobs: BlobStore, job_id: str, end: str
) -> None:
    start(database, job_id)
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        if end == "failed":
            jobs.fail(session, blobs, job, ERROR)
        else:
            jobs.succeed(session, blobs, job, {})
        with pytest.raises(jobs.JobStateError):
            jobs.cancel(session, blobs, job)
    assert status(database, job_id) == end


def test_only_a_finished_job_can_be_deleted(database: Database, blobs: BlobStore, job_id: str) -> None:
    with database.transaction() as session:
        with pytest.raises(jobs.JobStateError):
            jobs.delete(session, blobs, session.get_one(Job, job_id))
        jobs.cancel(session, blobs, session.get_one(Job, job_id))
        jobs.delete(session, blobs, session.get_one(Job, job_id))
    assert types(database, job_id) == []


def test_the_database_refuses_a_second_end(database: Database, job_id: str) -> None:
    with database.transaction() as session:
        events.append(session, job_id, "job.succeeded", {})
    with pytest.raises(IntegrityError), database.transaction() as session:
        events.append(session, job_id, "job.failed", {})


def test_after_the_last_attempt_the_job_fails_as_worker_lost(
    database: Database, blobs: BlobStore, job_id: str
) -> None:
    for _ in range(3):
        lease = start(database, job_id)
        with database.transaction() as session:
            session.get_one(Work, lease.work_id).lease_expires_at = 0
        sweeper.sweep(database, blobs, max_attempts=3, lease_seconds=60)
    with database.snapshot() as session:
        job = session.get_one(Job, job_id)
        assert job.status == "failed"
        assert job.error is not None
        assert (job.error["code"], job.error["fault"]) == ("worker_lost", "service")
        assert job.attempt == 3
    assert types(database, job_id) == ["job.queued", "job.started", "job.failed"]


def test_two_workers_that_finish_at_once_release_what_waits_once(
    database: Database, blobs: BlobStore, job_id: str
) -> None:
    lease = start(database, job_id)
    with database.transaction() as session:
        work.finish(session, lease)
        for start_at in range(8):
            work.add(session, "block", job_id, "p", payload={"start": start_at})
        last = work.add(session, "reduce", job_id, "p", waits_for="block").id

    def finish_one(owner: str) -> None:
        while True:
            with database.transaction() as session:
                job, row = jobs.locked(session, job_id), work.next_of(session, job_id)
                if row is None or row.kind == "reduce" or job is None:
                    return
                if not work.claim(session, row.id, row.attempt, owner, 60):
                    continue
                lease = Lease(row.id, row.attempt, owner)
            with database.transaction() as session:
                job = jobs.locked(session, job_id)
                assert job is not None
                work.finish(session, lease)
                jobs.stage_done(session, blobs, job, "block")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(finish_one, "abcd"))
    with database.snapshot() as session:
        assert session.get_one(Work, last).status == "queued"
        assert {row.status for row in work.of(session, job_id, "block")} == {"done"}


@pytest.mark.parametrize("hidden", [[8, 8], [8], []])
def test_a_network_of_another_size_is_another_one(
    database: Database, blobs: BlobStore, hidden: list[int]
) -> None:
    def of(hidden: list[int]) -> dict[str, Any]:
        return {"name": "mlp", "config": {"in_features": 4, "hidden": hidden, "num_classes": 3}}

    with database.transaction() as session:
        asked = {"architecture": of([8])}
        job = jobs.create(session, project_id="p", type="train", seed=0, checkpoint_ids=[], request=asked)
        jobs.start(session, job, 1)
        jobs.succeed(session, blobs, job, {})
    with database.snapshot() as session:
        found = jobs.last_succeeded(session, "p", "train", 10, architecture=of(hidden))
    assert [one.id for one in found] == ([job.id] if hidden == [8] else [])
