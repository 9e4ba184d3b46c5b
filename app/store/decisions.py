"""What people decided about a job's samples: keep, remove, or relabel; each key its own.

A decision is the last word of its key on a sample. It acts on nothing by itself: a selection is made of the
decisions as they are at that moment (docs/decisions/0030).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.orm import Session

from app.store.chosen import ACTIONS, Action
from app.store.db import inserting, utcnow
from app.store.tables import ApiKey, Decision

TOGETHER = 500  # samples of one statement: a database takes so many parameters


class Word(NamedTuple):
    """What is decided of a sample: `action` None takes the decision back; `label` is that of a relabel."""

    sample_index: int
    action: Action | None
    label: float | None = None


class Decided(NamedTuple):
    """A decision, and the name of the key that made it."""

    decision: Decision
    key_name: str


def decide(session: Session, job_id: str, key_id: str, words: Sequence[Word]) -> None:
    """Writes the last word of a key on each of these samples, no sample twice. The caller holds the job's
    lock.
    """
    undone = [word.sample_index for word in words if word.action is None]
    made = [word for word in words if word.action is not None]
    mine = Decision.job_id == job_id, Decision.key_id == key_id
    for start in range(0, len(undone), TOGETHER):
        some = undone[start : start + TOGETHER]
        session.execute(delete(Decision).where(*mine, Decision.sample_index.in_(some)))
    common = {"job_id": job_id, "key_id": key_id, "updated_at": utcnow()}
    for start in range(0, len(made), TOGETHER):
        rows = inserting(session)(Decision).values(
            [common | word._asdict() for word in made[start : start + TOGETHER]]
        )
        changed = {name: rows.excluded[name] for name in ("action", "label", "updated_at")}
        session.execute(
            rows.on_conflict_do_update(index_elements=["job_id", "sample_index", "key_id"], set_=changed)
        )


def counts(session: Session, job_id: str, key_id: str) -> dict[Action, int]:
    """How many samples the key decided on, by action."""
    query = select(Decision.action, func.count()).where(Decision.job_id == job_id, Decision.key_id == key_id)
    found = dict(session.execute(query.group_by(Decision.action)).all())
    return {action: found.get(action, 0) for action in ACTIONS}


def some(session: Session, job_id: str, key_id: str, indices: Sequence[int]) -> dict[int, Decision]:
    """The key's decisions on these samples (of a page), by index."""
    mine = Decision.job_id == job_id, Decision.key_id == key_id
    found = session.scalars(select(Decision).where(*mine, Decision.sample_index.in_(indices)))
    return {one.sample_index: one for one in found}


def page(
    session: Session,
    job_id: str,
    limit: int,
    *,
    key_id: str | None = None,
    action: Action | None = None,
    after: Sequence[int | str] | None = None,
) -> list[Decided]:
    """Up to `limit` decisions by sample, then key, past the one whose `position` is `after`; of one key, or
    of all.
    """
    query = select(Decision, ApiKey.name).join(ApiKey, ApiKey.id == Decision.key_id)
    query = query.where(Decision.job_id == job_id)
    if key_id is not None:
        query = query.where(Decision.key_id == key_id)
    if action is not None:
        query = query.where(Decision.action == action)
    if after is not None:
        index, key = after
        same = and_(Decision.sample_index == index, Decision.key_id > key)
        query = query.where(or_(Decision.sample_index > index, same))
    query = query.order_by(Decision.sample_index, Decision.key_id).limit(limit)
    return [Decided(*row) for row in session.execute(query)]


def position(found: Decided) -> list[int | str]:
    """What tells where a decision stands, to go on from there."""
    return [found.decision.sample_index, found.decision.key_id]


def every(session: Session, job_id: str, *, key_id: str, batch: int = 1000) -> Iterator[list[Decided]]:
    """All decisions of a key, some at a time."""
    after: Sequence[int | str] | None = None
    while found := page(session, job_id, batch, key_id=key_id, after=after):
        yield found
        session.expunge_all()
        after = position(found[-1])


def to_act_on(session: Session, job_id: str, key_id: str) -> tuple[list[int], list[tuple[int, float]]]:
    """(samples to remove, (sample, label) of those to relabel), ascending: what a selection is made of."""
    query = select(Decision.sample_index, Decision.label, Decision.action).where(
        Decision.job_id == job_id, Decision.key_id == key_id, Decision.action != "keep"
    )
    rows = session.execute(query.order_by(Decision.sample_index)).all()
    remove = [row.sample_index for row in rows if row.action == "remove"]
    return remove, [(row.sample_index, row.label) for row in rows if row.action == "relabel"]


def drop(session: Session, job_id: str) -> None:
    """Deletes all decisions about a job."""
    session.execute(delete(Decision).where(Decision.job_id == job_id))
