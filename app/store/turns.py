"""Whose turn it is: fair between projects, and between what each of them asked for.

A message only says that there is work. Which unit is taken follows from the rows: one of the project for
which the fewest units run, then of the one that was served least recently; within it an upload or an export,
which are short and watched for, then a unit whose worker died or was stopped, which had its turn already,
then what was served least recently, then what was queued first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store import work
from app.store.db import epoch, inserting
from app.store.tables import Job, Turn, Work

SHORT = work.QUEUES["validate"]
INTERRUPTED = 2  # the attempt


def next_unit(session: Session, queues: Sequence[str], may_begin: Callable[[str], bool]) -> Work | None:
    """The queued unit whose turn it is; None where there is none for these queues.

    Args:
        may_begin: whether this project may begin another job; those that have begun go on in any case.
    """
    for project_id in _in_turn(session, queues):
        found = _of(session, project_id, queues, may_begin(project_id))
        if found is not None:
            return found
    return None


def presses(unit: Work) -> bool:
    """Whether workers leave what they have at hand for this unit: an upload, an export, or what was
    interrupted. Once: what is interrupted again may be what kills its workers.
    """
    return unit.queue == SHORT or unit.attempt == INTERRUPTED


def something_presses(session: Session, queues: Sequence[str]) -> bool:
    """Whether such a unit is queued that this worker, which serves `queues`, could take."""
    pressing = (Work.queue == SHORT) | (Work.attempt == INTERRUPTED)
    waiting = select(Work.id).where(pressing, Work.queue.in_(queues), Work.status == "queued", work.is_due())
    return session.scalar(waiting.limit(1)) is not None


def served(session: Session, unit: Work) -> None:
    """Notes that a unit was taken. The caller holds the lock of the job or selection that it is of."""
    for whose in (unit.project_id,) if unit.queue == SHORT else (unit.project_id, unit.subject):
        row = inserting(session)(Turn).values(whose=whose, served_at=epoch())
        renewed = row.on_conflict_do_update(index_elements=["whose"], set_={"served_at": epoch()})
        session.execute(renewed)


def _in_turn(session: Session, queues: Sequence[str]) -> Sequence[str]:
    """The projects that have queued units, in the order they are to be served."""
    here = Work.queue.in_(queues)
    queued = here, Work.status == "queued", work.is_due()
    waiting = select(Work.project_id).where(*queued).distinct().subquery()
    running = select(Work.project_id, func.count().label("units")).where(here, Work.status == "running")
    busy = running.group_by(Work.project_id).subquery()
    query = (
        select(waiting.c.project_id)
        .outerjoin(busy, busy.c.project_id == waiting.c.project_id)
        .outerjoin(Turn, Turn.whose == waiting.c.project_id)
        .order_by(func.coalesce(busy.c.units, 0), func.coalesce(Turn.served_at, 0), waiting.c.project_id)
    )
    return session.scalars(query).all()


def _of(session: Session, project_id: str, queues: Sequence[str], may_begin: bool) -> Work | None:
    """The project's next queued unit."""
    queued = [Work.queue.in_(queues), Work.status == "queued", Work.project_id == project_id, work.is_due()]
    if not may_begin:
        queued.append(Work.subject.not_in(select(Job.id).where(Job.status == "queued")))
    query = select(Work).outerjoin(Turn, Turn.whose == Work.subject).where(*queued)
    order = (Work.queue != SHORT, Work.attempt != INTERRUPTED, func.coalesce(Turn.served_at, 0), Work.id)
    return session.scalar(query.order_by(*order).limit(1))
