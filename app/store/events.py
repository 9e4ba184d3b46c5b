"""Events of a resource, written in the transaction of what they tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.store.tables import Event

TERMINAL = ("job.succeeded", "job.failed", "job.cancelled")


def append(session: Session, subject: str, type: str, data: dict[str, Any]) -> None:  # noqa: A002
    """Records an event. A second terminal event of one subject is refused by a unique index."""
    session.add(Event(subject=subject, type=type, data=data, terminal=type in TERMINAL))


def listed(session: Session, subject: str, after: int = 0, limit: int = 1000) -> Sequence[Event]:
    """Events of `subject` past the event id `after`, oldest first."""
    query = select(Event).where(Event.subject == subject, Event.id > after).order_by(Event.id).limit(limit)
    return session.scalars(query).all()


def drop(session: Session, subject: str) -> None:
    session.execute(delete(Event).where(Event.subject == subject))
