"""From a ring of the doorbell to work done: choose, claim, do, write, finish, and on to the next unit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app import logs, tracing
from app.settings import Settings
from app.store import jobs, selections, sweeper, trajectories, turns, usage, work
from app.store.full import disk_full
from app.store.tables import Job, Work
from app.store.work import Lease, LeaseLostError
from worker.amend import update
from worker.beside import Beside
from worker.evaluate import judge, reproduce, retrain, survey, verdict
from worker.export import export
from worker.fetch import fetch
from worker.influence.memory import out_of_memory
from worker.lease import CancelledError, Renewal, StoppingError
from worker.plan import plan
from worker.problems import StoreAwayError, UserError, failed, no_memory, no_room, store_away
from worker.process import Process, process, queues, stopping
from worker.reduce import reduce
from worker.score import block, sweep
from worker.select import select
from worker.train import conclude, prepare, train
from worker.validate import validate
from worker.verify import settle, verify

log = logging.getLogger(__name__)
KINDS: dict[str, Callable[[Process, Work, Renewal], None]] = {
    "fetch": fetch,
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
# How long a worker stays with what it has the data of at hand, before others get their turn: what presses
# between any two units, another project's work soon, the same project's later.
PROJECT_SECONDS, STAY_SECONDS = 5.0, 20.0


def serve() -> None:
    """Does one unit after the other, that whose turn it is, until none is left or the worker is to stop."""
    mine, at_hand, since = process(), "", 0.0
    while (row := _next(mine, at_hand, time.monotonic() - since)) is not None:
        if stopping.is_set():
            with mine.database.transaction() as session:
                work.ring(session, row)  # for another worker
            return
        claimed = _claim(mine, row)
        if claimed is None:
            continue  # somebody was faster, or the job has to wait after all
        if row.queue != turns.SHORT and row.subject != at_hand:
            at_hand, since = row.subject, time.monotonic()
        _attempt(mine, claimed)


class Fetchers(Beside):
    """The threads of one worker that fetch files by their `uri`, those of each project in turn."""

    def __init__(self, mine: Process) -> None:
        super().__init__("fetcher", mine.settings.uri_fetchers, self._once)
        self._mine = replace(mine, at_hand={})  # that of the computing thread is its own

    def _once(self) -> bool:
        with self._mine.database.snapshot() as session:
            row = turns.next_unit(session, (work.QUEUES[work.FETCHED],), lambda _project: True)
        if row is None:
            return False
        if (claimed := _claim(self._mine, row)) is not None:
            _attempt(self._mine, claimed)
        return True


def _next(mine: Process, at_hand: str, seconds: float) -> Work | None:
    """The unit to do next, after so many seconds with what is at hand."""
    with mine.database.snapshot() as session:
        own = work.next_of(session, at_hand)
        if own and seconds < PROJECT_SECONDS and not turns.something_presses(session, queues()):
            return own
        row = turns.next_unit(session, queues(), partial(may_begin, mine.settings, session))
        if own and row and not turns.presses(row) and seconds < _stay(own, row):
            return own
        return row


def _stay(own: Work, other: Work) -> float:
    """How long a worker stays with `own` when it would be the turn of `other`."""
    return STAY_SECONDS if other.project_id == own.project_id else PROJECT_SECONDS


def may_begin(settings: Settings, session: Session, project_id: str) -> bool:
    """Whether another job of the project may begin: not while as many run as may."""
    most = settings.quota(project_id).jobs_running
    return most is None or usage.jobs_running(session, project_id) < most


def must_wait(settings: Settings, session: Session, subject: str) -> bool:
    """Whether a job may not begin yet. If it may, no other job of its project begins until the end of the
    transaction.
    """
    job = session.get(Job, subject)
    if job is None or job.status != "queued" or settings.quota(job.project_id).jobs_running is None:
        return False
    usage.counting(session, job.project_id, "jobs running")
    return not may_begin(settings, session, job.project_id)


def _claim(mine: Process, row: Work) -> Work | None:
    with mine.database.transaction() as session:
        if must_wait(mine.settings, session, row.subject):
            return None
        job = jobs.locked(session, row.subject)
        selection = selections.locked(session, row.subject)
        claimed = work.claim(session, row.id, row.attempt, mine.owner, mine.settings.lease_seconds)
        if claimed is None:
            return None
        if job is not None and not jobs.start(session, job, row.attempt):
            jobs.unit_stopped(session, mine.blobs, job, claimed)
            return None
        if selection is not None:
            selections.start(selection)
        turns.served(session, claimed)
        return claimed


def _attempt(mine: Process, row: Work) -> None:
    ids = ids_of(row)
    with logs.about(**ids), tracing.span(f"work {row.kind}", row.context or {}, **ids):
        _do(mine, row)


def _do(mine: Process, row: Work) -> None:
    lease, seconds = Lease(row.id, row.attempt, mine.owner), mine.settings.lease_seconds
    renewal = Renewal(mine.database, row, lease, seconds, stopping)
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
    except StoppingError:
        _give_back(mine, row, lease)
    except UserError as refused:
        _end(mine, row, refused.problem)
    except StoreAwayError as away:
        log.warning("%s of %s, attempt %d: %s", row.kind, row.subject, row.attempt, away.__cause__ or away)
        mine.figures.add("unit_failures", row.kind)
        _retry(mine, row, away)
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


def _give_back(mine: Process, row: Work, lease: Lease) -> None:
    """Lets another worker do the unit again from its start; no failure is counted."""
    log.info("given back: the worker is to stop")
    with mine.database.transaction() as session:
        job = jobs.locked(session, row.subject)
        unit = work.locked(session, row)
        if job is not None and unit is not None and job.status == "cancelling":
            jobs.unit_stopped(session, mine.blobs, job, unit)
        elif unit is not None:
            work.give_back(session, lease)


def _end(mine: Process, row: Work, error: dict[str, Any]) -> None:
    with mine.database.transaction() as session:
        jobs.locked(session, row.subject)
        selections.locked(session, row.subject)
        trajectories.lock_owner(session, row.subject)
        if work.locked(session, row) is not None:
            sweeper.give_up(session, mine.blobs, row.subject, error)


def _retry(mine: Process, row: Work, crash: Exception) -> None:
    mine.at_hand.clear()
    settings = mine.settings
    # What was away for a moment (a driver, a file server) gets time to come back; a store, a full disk more.
    long = settings.lease_seconds * 2**row.failures
    if disk_full(crash):
        error, seconds = no_room(row.kind), long
    elif isinstance(crash, StoreAwayError):
        error, seconds = store_away(row.kind, crash), long
    else:
        found = no_memory(row.kind) if out_of_memory(crash) else failed(row.kind, crash)
        error, seconds = found, min(0.5 * 2**row.failures, settings.lease_seconds / 3)
    with mine.database.transaction() as session:
        sweeper.put_back(session, mine.blobs, row, settings.max_attempts, error, seconds=seconds)
