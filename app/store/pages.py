"""Pages of resources, newest first: ids sort by time of creation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.store.tables import (
    ApiKey,
    AuditEvent,
    Dataset,
    Export,
    Job,
    Selection,
    Trajectory,
    Upload,
    WebhookDelivery,
    WebhookEndpoint,
)

Listed = TypeVar(
    "Listed",
    Dataset,
    Trajectory,
    Job,
    Selection,
    Export,
    Upload,
    ApiKey,
    AuditEvent,
    WebhookEndpoint,
    WebhookDelivery,
)


def newest(
    session: Session,
    table: type[Listed],
    project_id: str,
    limit: int,
    *where: ColumnElement[bool],
    after: Sequence[Any] | None = None,
    **equal: Any,
) -> Sequence[Listed]:
    """Up to `limit` rows, newest first, past the one whose `position` is `after`.

    Args:
        where: what else must hold.
        equal: columns and the values they must have; None lets any pass.
    """
    query = (
        select(table)
        .where(table.project_id == project_id)
        .where(*where)
        .order_by(table.id.desc())
        .limit(limit)
    )
    query = query.where(
        *(getattr(table, name) == value for name, value in equal.items() if value is not None)
    )
    if after is not None:
        query = query.where(table.id < after[0])
    return session.scalars(query).all()


def older(
    session: Session, table: type[Listed], project_id: str, limit: int, before: str | None, **equal: Any
) -> tuple[list[Listed], str | None]:
    """(up to `limit` rows, newest first, past the one with the id `before`; the last one's id where more
    follow).
    """
    after = [before] if before else None
    found = newest(session, table, project_id, limit + 1, after=after, **equal)
    return list(found[:limit]), found[limit - 1].id if len(found) > limit else None


def position(
    row: Dataset
    | Trajectory
    | Job
    | Selection
    | Export
    | Upload
    | ApiKey
    | AuditEvent
    | WebhookEndpoint
    | WebhookDelivery,
) -> list[Any]:
    """What tells where a row stands, to go on from there."""
    return [row.id]
