"""From a ring of the doorbell to work done: claim, do, write, finish, and go on with the next unit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from app import logs, tracing
from app.settings import Settings
from app.store import jobs, selections, sweeper, trajectories, usage, work
from app.store.tables import Job, Work
from app.store.work import Lease, LeaseLostError
from worker.amend import update
from worker.evaluate import judge, reproduce, retrain, survey, verdict
from worker.export import export
from worker.lease import CancelledError, Renewal
from worker.plan import plan
from worker.problems import UserError, problem
from worker.process import Process, process, stopping
from worker.reduce import reduce
from worker.score import block, sweep
from worker.select import select
from worker.train import conclude, prepare, train
from worker.validate import validate
from worker.verify import settle, verify

log = logging.getLogger(__name__)
KINDS: dict[str, Callable[[Process, Work, Renewal], None]] = {
    "validate": validate,
    "export": export,
    "plan": plan,
    "sweep": sweep,
    "block": block,
    "reduce": reduce,
    "prepare": prepare,
    "train": train,
    "conclude": conclude,
    "survey": survey,
    "judge": judge,
    "reproduce": reproduce,
    "retrain": retrain,
    "verdict": verdict,
    "select": select,
    "update": update,
    "verify": verify,
    "settle": settle,
}
NAMES = {
    "job": "job_id",
    "ds": "dataset_id",
    "ck": "checkpoint_id",
    "sel": "selection_id",
    "exp": "export_id",
}
# how long one message may keep the worker on one job before others get their turn; uploads get it sooner
STAY_SECONDS = 20.0


def serve(work_id: str, attempt: int) -> None:
    """Does the unit that the message names, then others of the same subject while there are any."""
    mine = process()
    leave_at = time.monotonic() + STAY_SECONDS
    with mine.database.snapshot() as session:
        named = session.get(Work, work_id)
    while named is not None:
        row = _claim(mine, named.subject, work_id, attempt)
        if row is not None:
            _attempt(mine, row)
        with mine.database.transaction() as session:
            # Also when somebody else was faster: the subject may have more to do.
            following = work.next_of(session, named.subject)
            if following is None or must_wait(mine.settings, session, named.subject):
                return  # the sweeper rings again for a job that has to wait
            if stopping.is_set() or time.monotonic() > leave_at or work.others_wait(session, following):
                work.ring(session, following)
                return
            work_id, attempt = following.id, following.attempt


def must_wait(settings: Settings, session: Session, subject: str) -> bool:
    """Whether a job may not begin yet: as many of its project's run as may. If it may, no other job of its
    project begins until the end of the transaction.
    """
    job = session.get(Job, subject)
    if job is None or job.status != "queued":
        return False
    most = settings.quota(job.project_id).jobs_running
    if most is None:
        return False
    usage.counting(session, job.project_id, "jobs running")
    return usage.jobs_running(session, job.project_id) >= most


def _claim(mine: Process, subject: str, work_id: str, attempt: int) -> Work | None:
    with mine.database.transaction() as session:
        if must_wait(mine.settings, session, subject):
            return None
        job = jobs.locked(session, subject)
        selection = selections.locked(session, subject)
        claimed = work.claim(session, work_id, attempt, mine.owner, mine.settings.lease_seconds)
        if claimed is not None and job is not None and not jobs.start(session, job, attempt):
            jobs.unit_stopped(session, mine.blobs, job, claimed)
            return None
        if claimed is not None and selection is not None:
            selections.start(selection)
        return claimed


def _attempt(mine: Process, row: Work) -> None:
    ids = ids_of(row)
    with logs.about(**ids), tracing.span(f"work {row.kind}", row.context or {}, **ids):
        _do(mine, row)


def _do(mine: Process, row: Work) -> None:
    renewal = Renewal(mine.database, row, Lease(row.id, row.attempt, mine.owner), mine.settings.lease_seconds)
    began = time.monotonic()
    try:
        with renewal.kept():
            KINDS[row.kind](mine, row, renewal)
        seconds = time.monotonic() - began
        mine.figures.took(row.kind, seconds)
        log.info("done", extra={"attempt": row.attempt, "seconds": round(seconds, 3)})
    except LeaseLostError:
        log.info("%s of %s: the lease is somebody else's now", row.kind, row.subject)
    except CancelledError:
        _give_up_cancelled(mine, row)
    except UserError as refused:
        _end(mine, row, refused.problem)
    except Exception as crash:
        log.exception("%s of %s failed in attempt %d", row.kind, row.subject, row.attempt)
        mine.figures.add("unit_failures", row.kind)
        _retry(mine, row, crash)


def ids_of(row: Work) -> dict[str, str]:
    """What lines about a unit of work carry: its id and kind, what it is of, the request it comes from."""
    whose = NAMES.get(row.subject.partition("_")[0], "subject")
    return {"work_id": row.id, "kind": row.kind, whose: row.subject, **(row.context or {})}


def _give_up_cancelled(mine: Process, row: Work) -> None:
    with mine.database.transaction() as session:
        job = jobs.locked(session, row.subject)
        unit = work.locked(session, row)
        if job is not None and unit is not None:
            jobs.unit_stopped(session, mine.blobs, job, unit)


def _end(mine: Process, row: Work, error: dict[str, Any]) -> None:
    with mine.database.transaction() as session:
        jobs.locked(session, row.subject)
        selections.locked(session, row.subject)
        trajectories.lock_owner(session, row.subject)
        if work.locked(session, row) is not None:
            sweeper.give_up(session, mine.blobs, row.subject, error)


def _retry(mine: Process, row: Work, crash: Exception) -> None:
    mine.at_hand.clear()
    # What was away for a moment (a disk, a driver) gets time to come back.
    stopping.wait(min(0.5 * 2**row.failures, mine.settings.lease_seconds / 3))
    error = problem(
        "internal_error",
        f"The service failed at this ({row.kind}) in every attempt; the last one: {type(crash).__name__}: "
        f"{crash}. The workers' logs hold the trace.",
        fault="service",
    )
    with mine.database.transaction() as session:
        sweeper.put_back(session, mine.blobs, row, mine.settings.max_attempts, error)
