"""A project's jobs begin as others of it end, where it may have no more at once."""

from __future__ import annotations

from typing import Any

from app.settings import Quota, Settings
from app.store import jobs
from app.store.db import Database
from worker.run import must_wait


def test_a_job_waits_while_its_project_runs_as_many_as_it_may(database: Database) -> None:
    settings = Settings(project_quotas={"small": Quota(jobs_running=1)})
    about: dict[str, Any] = {"type": "influence", "method": {"name": "loss"}, "seed": 0, "checkpoint_ids": []}
    with database.transaction() as session:
        first, second = (jobs.create(session, project_id="small", **about) for _ in range(2))
        other = jobs.create(session, project_id="large", **about)
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
