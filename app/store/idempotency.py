"""First answers to POST requests, kept to be replayed: in flight → answered, until `expires_at`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CursorResult, delete, update
from sqlalchemy.orm import Session

from app.store.db import database_epoch, epoch, inserting
from app.store.tables import IdempotencyKey


def reserve(
    session: Session, project_id: str, key: str, fingerprint: str, seconds: float
) -> float | IdempotencyKey | None:
    """Marks the key as in flight for `seconds`, unless a live request or answer has it.

    Returns:
        When the mark expires, which is the right to settle it; or else the row that has the key, None when
        that was freed just now.
    """
    expires_at = database_epoch(session) + seconds
    mine = {
        "fingerprint": fingerprint,
        "status_code": None,
        "headers": None,
        "body": None,
        "expires_at": expires_at,
    }
    row = inserting(session)(IdempotencyKey).values(project_id=project_id, key=key, **mine)
    # One statement, so that of two requests that find the same dead row only one revives it.
    taken = row.on_conflict_do_update(
        index_elements=["project_id", "key"], set_=mine, where=IdempotencyKey.expires_at < epoch()
    ).returning(IdempotencyKey.key)
    if session.execute(taken).first():
        return expires_at
    return session.get(IdempotencyKey, (project_id, key))


def settle(
    session: Session, project_id: str, key: str, expires_at: float, seconds: float, answer: dict[str, Any]
) -> bool:
    """Keeps `answer` (status_code, headers, body) for `seconds`; False when the mark is not ours any more."""
    mine = _mine(project_id, key, expires_at)
    done = update(IdempotencyKey).where(*mine).values(expires_at=epoch() + seconds, **answer)
    result = session.execute(done, execution_options={"synchronize_session": False})
    return isinstance(result, CursorResult) and result.rowcount == 1


def release(session: Session, project_id: str, key: str, expires_at: float) -> None:
    """Frees a key whose request was refused."""
    session.execute(delete(IdempotencyKey).where(*_mine(project_id, key, expires_at)))


def purge(session: Session) -> None:
    """Forgets the answers whose time is over."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.expires_at < epoch()))


def _mine(project_id: str, key: str, expires_at: float) -> list[Any]:
    return [
        IdempotencyKey.project_id == project_id,
        IdempotencyKey.key == key,
        IdempotencyKey.expires_at == expires_at,
        IdempotencyKey.status_code.is_(None),
    ]
