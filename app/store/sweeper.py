"""The sweeper: puts back what dead workers held and rings again for what the broker lost.

Every worker runs one. Two may race: each step is a compare-and-set.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.store import (
    audit,
    datasets,
    exports,
    figures,
    idempotency,
    jobs,
    partitions,
    selections,
    sessions,
    trajectories,
    uploads,
    webhooks,
    work,
)
from app.store.blobs import BlobStore
from app.store.db import Database, utcnow
from app.store.tables import BatchOrder, Checkpoint, Dataset, Export, TrajectoryFile, WebhookDelivery, Work

WORKER_LOST = {
    "type": "https://diffin.dev/problems/worker_lost",
    "title": "The workers kept dying",
    "status": 500,
    "code": "worker_lost",
    "fault": "service",
}


def sweep(
    database: Database,
    blobs: BlobStore,
    *,
    max_attempts: int,
    lease_seconds: float,
    idle_queues: Sequence[str] = (),
) -> int:
    """One round; returns how many units were put back, given up or rung for again.

    Each unit in a transaction of its own: a job whose reduction holds its lock for long delays nobody else's.

    Args:
        idle_queues: what this worker listens to, if it has nothing to do. Only then is an old message a lost
            one: while workers are busy it waits its turn, and ringing again would only pile up messages.
    """
    with database.snapshot() as session:
        overdue = work.overdue(session)
    for row in overdue:
        with database.transaction() as session:
            if put_back(session, blobs, row, max_attempts, _lost(row), overdue=True):
                figures.add(session, {figures.Key("leases_lost", row.kind): 1})
    with database.transaction() as session:
        return len(overdue) + work.ring_again(session, idle_queues, lease_seconds)


def tidy(
    database: Database,
    blobs: BlobStore,
    *,
    webhook_log_days: float = 30,
    retention_days: float = 0,
    audit_days: float = 365,
) -> None:
    """What need not be done every second: old answers, sessions, messages, exports and uploads, jobs that
    stayed `cancelling`, files and tables that nobody names.
    """
    with database.transaction() as session:
        idempotency.purge(session)
        sessions.purge(session)
        audit.purge(session, audit_days)
        exports.expire(session, blobs)
        uploads.expire(session, blobs)
        webhooks.purge(session, webhook_log_days)
    with database.snapshot() as session:
        left = jobs.cancelling(session)
        blobs.collect(session)
    for job_id in left:
        with database.transaction() as session:
            if (job := jobs.locked(session, job_id, patient=False)) is not None:
                jobs.settle_cancelled(session, blobs, job)
    if retention_days:
        _retire(database, blobs, retention_days)
    partitions.sweep(database)


def _retire(database: Database, blobs: BlobStore, days: float) -> None:
    """Deletes the jobs that ended so long ago, each in a transaction of its own."""
    with database.snapshot() as session:
        old = jobs.ended_before(session, utcnow() - timedelta(days=days))
    for job_id in old:
        with database.transaction() as session:
            if (job := jobs.locked(session, job_id, patient=False)) is not None:
                jobs.delete(session, blobs, job)


def put_back(
    session: Session,
    blobs: BlobStore,
    row: Work,
    max_attempts: int,
    error: dict[str, Any],
    *,
    overdue: bool = False,
    seconds: float = 0.0,
) -> bool:
    """Queues the next attempt of a unit, to be taken after so many seconds, or ends what it belongs to with
    `error` when none is left.

    False where there was nothing to do: it is gone, or somebody else's.
    """
    job = jobs.locked(session, row.subject, patient=not overdue)
    selection = selections.locked(session, row.subject, patient=not overdue)
    if job is None and selection is None and row.kind not in work.UNLOCKED:
        return False  # gone, or its owner is in the middle of writing
    trajectories.lock_owner(session, row.subject)
    unit = work.locked(session, row, overdue=overdue)
    if unit is None:
        return False
    if job is not None and job.status == "cancelling":
        jobs.unit_stopped(session, blobs, job, unit)
    elif not work.retry(session, unit, max_attempts, seconds):
        give_up(session, blobs, unit.subject, error)
    return True


def give_up(session: Session, blobs: BlobStore, subject: str, error: dict[str, Any]) -> None:
    """Ends a job, a selection or an export with `error`, or the validation of a data set or of a trajectory's
    file.

    The caller holds the lock of the job, the selection, or the trajectory that the file belongs to.
    """
    if (job := jobs.locked(session, subject)) is not None:
        jobs.fail(session, blobs, job, error)
    elif (selection := selections.locked(session, subject)) is not None:
        selections.fail(session, blobs, selection, error)
    elif (export := session.get(Export, subject)) is not None:
        exports.failed(session, export, error)
    elif (dataset := session.get(Dataset, subject)) is not None:
        datasets.invalid(session, blobs, dataset, error)
    elif (checkpoint := session.get(Checkpoint, subject)) is not None:
        trajectories.invalid(session, blobs, checkpoint, error)
    elif (order := session.get(BatchOrder, subject)) is not None:
        trajectories.invalid(session, blobs, order, error)
    elif (file := session.get(TrajectoryFile, subject)) is not None:
        trajectories.invalid(session, blobs, file, error)
    elif session.get(WebhookDelivery, subject) is not None:
        webhooks.lost(session, subject, error)


def _lost(row: Work) -> dict[str, Any]:
    return WORKER_LOST | {
        "detail": f"The worker died or fell silent in each of {row.failures + 1} attempts ({row.kind}). "
        "The workers' logs say why: often too little memory; DIFFIN_MEMORY_BYTES lowers what a chunk takes."
    }
