"""The audit log: every write that came with a key, allowed or not, and every sign-in; nothing of bodies.

A write has its line before it begins, and the line its status before the write is answered: whatever dies in
between, no write is without one.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from app.store.db import new_id, utcnow
from app.store.tables import AuditEvent


def begin(session: Session, **told: str | int | None) -> str:
    """The id of a new line: `project_id`, `key_id`, `method`, `route`, `request_id` and what is known."""
    row = AuditEvent(id=new_id("aud"), **told)
    session.add(row)
    return row.id


def end(session: Session, event_id: str, status: int, made: str | None = None) -> None:
    """Adds how it was answered, and the id of what was made."""
    values = {"status": status} | ({"subject_id": made} if made is not None else {})
    session.execute(update(AuditEvent).where(AuditEvent.id == event_id).values(**values))


def purge(session: Session, days: float) -> None:
    """Forgets what is older."""
    session.execute(delete(AuditEvent).where(AuditEvent.created_at < utcnow() - timedelta(days=days)))
