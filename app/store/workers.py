"""Heartbeats of the live workers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.store.db import epoch
from app.store.tables import Worker


def beat(session: Session, worker_id: str, queues: list[str], device: str, version: str) -> None:
    """Says that this worker lives, and forgets those silent for a day."""
    session.merge(
        Worker(
            id=worker_id,
            queues=queues,
            device=device,
            version=version,
            seen_at=session.scalar(select(epoch())),
        )
    )
    session.execute(delete(Worker).where(Worker.seen_at < epoch() - 24 * 3600))


def gone(session: Session, worker_id: str) -> None:
    session.execute(delete(Worker).where(Worker.id == worker_id))


def alive(session: Session, within: float) -> Sequence[Worker]:
    """Workers heard of in the last `within` seconds."""
    return session.scalars(select(Worker).where(Worker.seen_at > epoch() - within).order_by(Worker.id)).all()
