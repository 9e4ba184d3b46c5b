"""A project's jobs begin as others of it end, where it may have no more at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from app.settings import Quota, Settings
from app.store import jobs, usage, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Job, Work
from worker import run
from worker.process import Process
from worker.run import must_wait

INFLUENCE: dict[str, Any] = {"type": "influence", "method": {"name": "loss"}, "seed": 0, "checkpoint_ids": []}
AT_ONCE, MAY = 12, 3


def test_a_job_waits_while_its_project_runs_as_many_as_it_may(database: Database) -> None:
    settings = Settings(project_quotas={"small": Quota(jobs_running=1)})
    with database.transaction() as session:
        first, second = (jobs.create(session, project_id="small", **INFLUENCE) for _ in range(2))
        other = jobs.create(session, project_id="large", **INFLUENCE)
    with database.transaction() as session:
        assert not must_wait(settings, session, first.id)
        job = jobs.locked(session, first.id)
        assert job is not None
        assert jobs.start(session, job, 1)
        session.flush()
        assert must_wait(settings, session, second.id)
        assert not must_wait(settings, session, first.id)  # it runs already: its other units go on
        assert not must_wait(settings, session, other.id)
        assert not must_wait(settings, session, "ds_no_job")
        job.status = "succeeded"
        session.flush()
        assert not must_wait(settings, session, second.id)


def test_of_jobs_that_workers_come_for_at_once_as_many_run_as_may(
    database: Database, blobs: BlobStore
) -> None:
    settings = Settings(project_quotas={"small": Quota(jobs_running=MAY)})
    mine = Process(settings, database, blobs, "a worker")
    with database.transaction() as session:
        made = [jobs.create(session, project_id="small", **INFLUENCE) for _ in range(AT_ONCE)]
    together = Barrier(AT_ONCE)

    def come(job: Job) -> Work | None:
        with database.snapshot() as session:
            unit = work.next_of(session, job.id)
        assert unit is not None
        together.wait()
        return run._claim(mine, unit)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        claimed = [unit for unit in pool.map(come, made) if unit is not None]
    with database.snapshot() as session:
        assert usage.jobs_running(session, "small") == len(claimed) == MAY
        assert usage.jobs_queued(session, "small") == AT_ONCE - MAY


def test_a_worker_leaves_a_job_that_waits(database: Database, blobs: BlobStore, monkeypatch: Any) -> None:
    settings = Settings(project_quotas={"small": Quota(jobs_running=1)})
    monkeypatch.setattr(run, "process", lambda: Process(settings, database, blobs, "a worker"))
    with database.transaction() as session:
        first, second = (jobs.create(session, project_id="small", **INFLUENCE) for _ in range(2))
        session.flush()
        job = jobs.locked(session, first.id)
        assert job is not None
        jobs.start(session, job, 1)
        own = work.next_of(session, first.id)
        assert own is not None and work.claim(session, own.id, own.attempt, "another", 60)
    run.serve()
    with database.snapshot() as session:
        unit = work.next_of(session, second.id)
        assert unit is not None
        assert session.get_one(Job, second.id).status == session.get_one(Work, unit.id).status == "queued"
