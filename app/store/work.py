"""Leased units of work: the truth about what is to be done, whatever the broker remembers.

    waiting ──release──▶ queued ──claim──▶ running ──finish──▶ done
                           ▲                  │
                           └─ requeue: the lease ran out, or the attempt failed and another is allowed

A message is only a doorbell (work id, attempt). Whoever claims owns the unit until its lease runs out by the
database's clock; every write of the owner is fenced by (owner, attempt).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import ColumnElement, CursorResult, Update, delete, func, select, update
from sqlalchemy.orm import Session
from structlog.contextvars import get_contextvars

from app.store import workers
from app.store.db import Message, database_epoch, epoch, ring_after_commit, utcnow
from app.store.tables import Turn, Work

TASKS = {
    "validate": "diffin.validate",
    "export": "diffin.export",
    "plan": "diffin.score",
    "sweep": "diffin.score",
    "block": "diffin.score",
    "reduce": "diffin.score",
    "prepare": "diffin.score",
    "train": "diffin.score",
    "conclude": "diffin.score",
    "survey": "diffin.score",
    "judge": "diffin.score",
    "reproduce": "diffin.score",
    "retrain": "diffin.score",
    "verdict": "diffin.score",
    "select": "diffin.score",
    "update": "diffin.score",
    "verify": "diffin.score",
    "settle": "diffin.score",
}
WITHOUT_GPU = ("validate", "export")
SENT, FETCHED = (
    "deliver",
    "fetch",
)  # by threads that look for it: nothing rings, and it waits for no computing
UNLOCKED = (*WITHOUT_GPU, SENT, FETCHED)  # for what is not locked before its work is
QUEUES = {kind: "cpu" if kind in WITHOUT_GPU else "gpu" for kind in TASKS}
QUEUES |= {SENT: "sent", FETCHED: "fetched"}
CARRIED = ("request_id", "traceparent")
UNFINISHED = ("waiting", "queued", "running")


class LeaseLostError(Exception):
    """Somebody else owns this unit of work now, or nobody needs it any more: drop it, write nothing."""


class Lease(NamedTuple):
    """The right to write the result of one attempt at one unit of work."""

    work_id: str
    attempt: int
    owner: str


def add(
    session: Session,
    kind: str,
    subject: str,
    project_id: str,
    *,
    stage: str | None = None,
    waits_for: str | None = None,
    payload: dict[str, Any] | None = None,
    total: int = 0,
) -> Work:
    """Queues a unit, or keeps it waiting until every unit of the stage `waits_for` of its subject is done.

    Where `waits_for` names another subject, it waits until that is let go by `release_from`.
    """
    row = Work(
        id=str(uuid_utils.uuid7()),
        kind=kind,
        stage=stage or kind,
        subject=subject,
        project_id=project_id,
        queue=QUEUES[kind],
        payload=payload or {},
        status="waiting" if waits_for else "queued",
        waits_for=waits_for,
        attempt=1,
        total=total,
        context=_context(),
        due_at=database_epoch(session) if kind == SENT else None,
    )
    session.add(row)
    if not waits_for:
        _ring(session, [row])
    return row


def claim(session: Session, work_id: str, attempt: int, owner: str, lease_seconds: float) -> Work | None:
    """The unit, now leased to `owner`; None when this attempt is already taken or over."""
    taken = _changed(
        session,
        update(Work)
        .where(Work.id == work_id, Work.attempt == attempt, Work.status == "queued")
        .values(status="running", lease_owner=owner, lease_expires_at=epoch() + lease_seconds, completed=0),
    )
    return session.get(Work, work_id, populate_existing=True) if taken else None


def next_due(session: Session, kind: str, but_stages: Sequence[str]) -> Work | None:
    """The unit of this kind that has been due for longest, and is in none of these stages."""
    due = [Work.queue == QUEUES[kind], Work.status == "queued", Work.due_at <= epoch()]
    query = select(Work).where(*due, Work.stage.not_in(but_stages)).order_by(Work.due_at, Work.id)
    return session.scalar(query.limit(1))


def postpone(session: Session, lease: Lease, seconds: float) -> None:
    """Queues the unit again, to be taken after so many seconds. Raises LeaseLostError as `finish` does."""
    values = {"status": "queued", "attempt": lease.attempt + 1, "lease_owner": None, "lease_expires_at": None}
    later = update(Work).where(*_held(lease)).values(due_at=epoch() + seconds, completed=0, **values)
    if not _changed(session, later):
        raise LeaseLostError(lease.work_id)


def next_of(session: Session, subject: str) -> Work | None:
    """Some queued unit of `subject`, for a worker that has its data at hand."""
    query = select(Work).where(Work.subject == subject, Work.status == "queued", is_due())
    return session.scalar(query.order_by(Work.id).limit(1))


def is_due() -> ColumnElement[bool]:
    """Whether a unit may be taken by now."""
    return Work.due_at.is_(None) | (Work.due_at <= epoch())


def ring(session: Session, row: Work) -> None:
    """Rings for a queued unit."""
    _ring(session, [row])


def renew(session: Session, lease: Lease, lease_seconds: float, completed: int) -> None:
    """Keeps the lease and reports progress. Raises LeaseLostError when it is somebody else's."""
    values = {"lease_expires_at": epoch() + lease_seconds, "completed": completed}
    if not _changed(session, update(Work).where(*_held(lease)).values(**values)):
        raise LeaseLostError(lease.work_id)


def expect(session: Session, lease: Lease, total: int) -> None:
    """Notes how much there is to do. Raises LeaseLostError as `renew` does."""
    if not _changed(session, update(Work).where(*_held(lease)).values(total=total)):
        raise LeaseLostError(lease.work_id)


def ensure_held(session: Session, lease: Lease) -> None:
    """Raises LeaseLostError when the unit is somebody else's, so that its transaction writes nothing."""
    if session.scalar(select(Work.id).where(*_held(lease)).with_for_update()) is None:
        raise LeaseLostError(lease.work_id)


def finish(
    session: Session, lease: Lease, *, result: dict[str, Any] | None = None, result_blob: str | None = None
) -> None:
    """Marks the unit done, once. Raises LeaseLostError, so that its transaction writes nothing."""
    values = {"status": "done", "result": result, "result_blob": result_blob, "lease_owner": None}
    done = update(Work).where(*_held(lease)).values(completed=Work.total, lease_expires_at=None, **values)
    if not _changed(session, done):
        raise LeaseLostError(lease.work_id)


def give_back(session: Session, lease: Lease) -> None:
    """Queues the unit again without counting a failure: its worker is stopping."""
    _requeue(session, lease.work_id, lease.attempt, failures=0)


def retry(session: Session, row: Work, max_attempts: int, seconds: float = 0.0) -> bool:
    """Queues the next attempt of a running unit whose attempt failed, to be taken after so many seconds.
    False after the last one.
    """
    return row.failures + 1 < max_attempts and _requeue(
        session, row.id, row.attempt, failures=1, seconds=seconds
    )


def release(session: Session, subject: str, stage: str) -> None:
    """Queues what waited for `stage`, if all of it is done. The caller holds the subject's lock."""
    session.flush()
    left = select(Work.id).where(Work.subject == subject, Work.stage == stage, Work.status.in_(UNFINISHED))
    if session.execute(left.limit(1)).first():
        return
    waiting = [Work.subject == subject, Work.waits_for == stage, Work.status == "waiting"]
    # One ring a worker is enough: each then looks by itself for what is next (turns).
    wake = max(1, len(workers.alive(session, within=60)))
    rows = session.scalars(select(Work).where(*waiting).order_by(Work.id).limit(wake)).all()
    session.execute(update(Work).where(*waiting).values(status="queued", rung_at=epoch()))
    _ring(session, rows)


def release_from(session: Session, other: str) -> None:
    """Queues what waited for this other subject, and rings for each. The caller holds the other's lock."""
    session.flush()
    waiting = [Work.waits_for == other, Work.status == "waiting"]
    rows = session.scalars(select(Work).where(*waiting).order_by(Work.id)).all()
    session.execute(update(Work).where(*waiting).values(status="queued"))
    _ring(session, rows)


def waiting_for(session: Session, other: str) -> Sequence[str]:
    """The subjects of the units that wait for this other subject."""
    query = select(Work.subject).where(Work.waits_for == other, Work.status == "waiting")
    return session.scalars(query.order_by(Work.id)).all()


def overdue(session: Session, limit: int = 100) -> Sequence[Work]:
    """Running units whose lease has run out."""
    query = select(Work).where(Work.status == "running", Work.lease_expires_at < epoch())
    return session.scalars(query.order_by(Work.lease_expires_at).limit(limit)).all()


def ring_again(session: Session, queues: Sequence[str], older_than: float, limit: int = 100) -> int:
    """Rings for the oldest queued units nobody came for: the broker has lost the message, or they were not
    due then.
    """
    due_since = (Work.due_at > Work.rung_at) & (Work.due_at <= epoch())
    late = (Work.rung_at < epoch() - older_than) | due_since
    query = select(Work).where(Work.status == "queued", Work.queue.in_(queues), late)
    rows = session.scalars(query.order_by(Work.rung_at).limit(limit)).all()
    _ring(session, rows)
    return len(rows)


def of(session: Session, subject: str, *kinds: str) -> Sequence[Work]:
    """All units of `subject` of these kinds, in the order they were planned."""
    return session.scalars(
        select(Work).where(Work.subject == subject, Work.kind.in_(kinds)).order_by(Work.id)
    ).all()


def running(session: Session, subject: str) -> bool:
    query = select(Work.id).where(Work.subject == subject, Work.status == "running").limit(1)
    return session.execute(query).first() is not None


def progress(session: Session, subject: str) -> int:
    """How much of the subject's work is done, in its unit of progress."""
    done = select(func.sum(Work.completed)).where(Work.subject == subject)
    return int(session.scalar(done) or 0)  # PostgreSQL adds big integers up to a Decimal


def progress_each(session: Session, subjects: Sequence[str]) -> dict[str, int]:
    """`progress` of each of the subjects that have work, in one query."""
    if not subjects:
        return {}
    done = (
        select(Work.subject, func.sum(Work.completed))
        .where(Work.subject.in_(subjects))
        .group_by(Work.subject)
    )
    return {subject: int(completed) for subject, completed in session.execute(done)}


def queued(session: Session) -> list[tuple[str, int, float]]:
    """(kind, how many are queued, seconds since the oldest of them was made), but for messages."""
    counted = select(Work.kind, func.count(), func.min(Work.created_at)).where(Work.status == "queued")
    counted = counted.where(Work.kind != SENT)
    now = utcnow()
    return [
        (kind, count, (now - oldest).total_seconds())
        for kind, count, oldest in session.execute(counted.group_by(Work.kind))
    ]


def count_running(session: Session) -> dict[str, int]:
    """How many units of each kind are being done."""
    counted = select(Work.kind, func.count()).where(Work.status == "running").group_by(Work.kind)
    return dict(session.execute(counted).all())


def drop(session: Session, subject: str, *, but_running: bool = False) -> list[str]:
    """Deletes the subject's units (a late owner then finds its lease lost); returns their result blobs."""
    where = [Work.subject == subject]
    if but_running:
        where.append(Work.status != "running")
    session.flush()
    found = session.scalars(select(Work.result_blob).where(*where, Work.result_blob.is_not(None))).all()
    session.execute(delete(Work).where(*where))
    session.execute(delete(Turn).where(Turn.whose == subject))
    return [blob for blob in found if blob]


def locked(session: Session, row: Work, *, overdue: bool = False) -> Work | None:
    """The unit with its row locked; None when it is no longer in this attempt (or no longer overdue)."""
    query = select(Work).where(Work.id == row.id, Work.attempt == row.attempt, Work.status == "running")
    if overdue:
        query = query.where(Work.lease_expires_at < epoch())
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def _context() -> dict[str, Any] | None:
    """What the work carries on to the worker, for its logs and traces: it is bound to this thread or task."""
    bound = get_contextvars()
    return {name: bound[name] for name in CARRIED if name in bound} or None


def _held(lease: Lease) -> list[Any]:
    return [
        Work.id == lease.work_id,
        Work.attempt == lease.attempt,
        Work.lease_owner == lease.owner,
        Work.status == "running",
    ]


def _requeue(session: Session, work_id: str, attempt: int, *, failures: int, seconds: float = 0.0) -> bool:
    values: dict[str, Any] = {"status": "queued", "attempt": attempt + 1}
    values |= {"lease_owner": None, "lease_expires_at": None}
    if seconds:
        values["due_at"] = epoch() + seconds
    again = (
        update(Work)
        .where(Work.id == work_id, Work.attempt == attempt, Work.status == "running")
        .values(completed=0, failures=Work.failures + failures, **values)
    )
    if not _changed(session, again):
        return False
    row = session.get(Work, work_id, populate_existing=True)
    if row is not None:
        _ring(session, [row])
    return True


def _ring(session: Session, rows: Sequence[Work]) -> None:
    session.flush()
    rows = [row for row in rows if row.kind in TASKS]
    if rows:
        session.execute(update(Work).where(Work.id.in_([row.id for row in rows])).values(rung_at=epoch()))
    ring_after_commit(session, *(Message(TASKS[row.kind], row.id, row.attempt, row.queue) for row in rows))


def _changed(session: Session, statement: Update) -> bool:
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return isinstance(result, CursorResult) and result.rowcount == 1
