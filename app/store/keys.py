"""API keys: kept as a keyed hash, so that the table alone opens nothing."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta

from sqlalchemy import ColumnElement, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.store.db import new_id, utcnow
from app.store.tables import ApiKey

DEFAULT_PROJECT = "default"
SCOPES = ("read", "write", "admin")


def digest(secret: bytes, key: str) -> str:
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()


def ensure_first(session: Session, secret: bytes, key: str) -> None:
    """Makes `key` an admin key of the default project, once."""
    insert = (sqlite if session.get_bind().dialect.name == "sqlite" else postgresql).insert
    row = insert(ApiKey).values(
        id=new_id("key"),
        project_id=DEFAULT_PROJECT,
        name="first key",
        digest=digest(secret, key),
        scopes=list(SCOPES),
        created_at=utcnow(),
    )
    session.execute(row.on_conflict_do_nothing())


def find(session: Session, secret: bytes, key: str) -> ApiKey | None:
    """The live key with this text; looking it up by digest takes the same time whatever the text."""
    return session.scalar(select(ApiKey).where(ApiKey.digest == digest(secret, key), *live()))


def live() -> list[ColumnElement[bool]]:
    """What holds for a key that opens something."""
    return [ApiKey.revoked_at.is_(None)]


def stale(key: ApiKey) -> bool:
    """Whether `last_used_at` is worth writing again (once a minute is enough)."""
    return key.last_used_at is None or utcnow() - key.last_used_at > timedelta(minutes=1)


def touch(session: Session, key_id: str) -> None:
    key = session.get(ApiKey, key_id)
    if key:
        key.last_used_at = utcnow()
