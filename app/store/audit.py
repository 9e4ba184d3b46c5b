"""The audit log: every write that came with a key, whether it was allowed or not; nothing of bodies."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.store.db import new_id, utcnow
from app.store.tables import AuditEvent


def record(session: Session, **told: str | int | None) -> None:
    """Adds a line: `project_id`, `key_id`, `method`, `route`, `subject_id`, `status`, `request_id`."""
    session.add(AuditEvent(id=new_id("aud"), **told))


def purge(session: Session, days: float) -> None:
    """Forgets what is older."""
    session.execute(delete(AuditEvent).where(AuditEvent.created_at < utcnow() - timedelta(days=days)))
