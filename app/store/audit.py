"""The audit log: every write that came with a key, allowed or not, and every sign-in; nothing of bodies.

A write has its line before it begins, and the line its status before the write is answered: whatever dies in
between, no write is without one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import cast

from sqlalchemy import Connection, Table, bindparam, delete, insert, update
from sqlalchemy.orm import Session

from app.store.db import new_id, utcnow
from app.store.tables import AuditEvent

LINES = cast(Table, AuditEvent.__table__)
END = update(LINES).where(LINES.c.id == bindparam("event_id"))


def begin(there: Session | Connection, **told: str | int | None) -> str:
    """The id of a new line: `project_id`, `key_id`, `method`, `route`, `request_id` and what is known."""
    event_id = new_id("aud")
    there.execute(insert(LINES), {"id": event_id, **told})
    return event_id


def end(there: Session | Connection, event_id: str, status: int, made: str | None = None) -> None:
    """Adds how it was answered, and the id of what was made."""
    values = {"status": status} | ({"subject_id": made} if made is not None else {})
    there.execute(END, {"event_id": event_id, **values})


def purge(session: Session, days: float) -> None:
    """Forgets what is older."""
    session.execute(delete(AuditEvent).where(AuditEvent.created_at < utcnow() - timedelta(days=days)))
