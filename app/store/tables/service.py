"""The service's own: keys, sessions, answers that are replayed, workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.db import utcnow
from app.store.tables.base import Base, Resource


class ApiKey(Resource, Base):
    """A key's digest, never the key: shown once, compared in constant time."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "project_id", "id"),)

    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[Any]]
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None]


class AuditEvent(Base):
    """A write that came with a key, or a sign-in; it is not answered where it has no status."""

    __tablename__ = "audit_events"
    __table_args__ = (Index(None, "project_id", "id"), Index(None, "created_at"))

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    key_id: Mapped[str | None]
    method: Mapped[str]
    route: Mapped[str]
    subject_id: Mapped[str | None]
    status: Mapped[int | None]
    request_id: Mapped[str]
    address: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class WebSession(Base):
    """Someone signed in to the page with a key (`session`), or invited to be, once (`link`).

    The digest is that of a random token, which the browser has and nobody else.
    """

    __tablename__ = "sessions"

    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[float]


class IdempotencyKey(Base):
    """The first answer to a POST, replayed to the same key and body; no status code while in flight."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status_code: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[float]


class Figure(Base):
    """A counter of the workers', by its name, the kind of work it is of and the bucket that it counts."""

    __tablename__ = "figures"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    le: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class Worker(Base):
    """A live worker's heartbeat: what readyz and capabilities report."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[Any]]
    device: Mapped[str]
    version: Mapped[str]
    seen_at: Mapped[float]
