"""Webhooks: who wants to hear of what, and every message to them, sent or yet to be sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.db import utcnow
from app.store.tables.base import Base, Resource


class WebhookEndpoint(Resource, Base):
    """An address that events are sent to: those in `events`, or all. Secrets follow from the salts."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index(None, "project_id", "id"),)

    url: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")
    events: Mapped[list[Any]]
    disabled: Mapped[bool] = mapped_column(default=False)
    disabled_reason: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    previous_salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None]


class WebhookDelivery(Base):
    """One message to one endpoint, written in the transaction of what it tells. Its `payload` is signed as it
    stands here. Those with the same `ordered_by` go out one after another."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "endpoint_id", "ordered_by", "id"),
        Index(None, "status", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id"))
    message_id: Mapped[str]
    type: Mapped[str]
    subject: Mapped[str]
    ordered_by: Mapped[str]
    payload: Mapped[str] = mapped_column(Text)
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    log: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    first_attempt_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
