"""API keys: kept as a keyed hash, so that the table alone opens nothing. live → expired or revoked."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, delete, or_, select
from sqlalchemy.orm import Session

from app.store.db import inserting, new_id, utcnow
from app.store.tables import ApiKey, WebSession

DEFAULT_PROJECT = "default"
SCOPES = ("read", "write", "admin")

Status = Literal["live", "expired", "revoked"]


class Live(NamedTuple):
    """What every request wants to know of the key that it comes with."""

    id: str
    project_id: str
    name: str
    scopes: list[str]
    last_used_at: datetime | None


class Made(NamedTuple):
    """A key and its text, which is known now and never again."""

    row: ApiKey
    text: str


def digest(secret: bytes, key: str) -> str:
    return hmac.new(secret, key.encode(), hashlib.sha256).hexdigest()


def ensure_first(session: Session, secret: bytes, key: str) -> None:
    """Makes `key` an admin key of the default project, once: one that was revoked stays so."""
    row = inserting(session)(ApiKey).values(
        id=new_id("key"),
        project_id=DEFAULT_PROJECT,
        name="first key",
        notes="",
        meta={},
        digest=digest(secret, key),
        scopes=list(SCOPES),
        created_at=utcnow(),
    )
    session.execute(row.on_conflict_do_nothing())


def create(session: Session, secret: bytes, seconds: float | None, **values: Any) -> Made:
    """A new key, good for `seconds`; None: until it is revoked."""
    text = f"diffin_{secrets.token_urlsafe(32)}"
    now = utcnow()
    row = ApiKey(
        id=new_id("key"),
        digest=digest(secret, text),
        created_at=now,
        expires_at=None if seconds is None else now + timedelta(seconds=seconds),
        **values,
    )
    session.add(row)
    session.flush()
    return Made(row, text)


def rotate(session: Session, secret: bytes, key: ApiKey, overlap: float) -> Made:
    """A key that may do the same, in place of a live one, which is good for `overlap` seconds more.

    One that was to expire is followed by one that lives as long.
    """
    lifetime = None if key.expires_at is None else (key.expires_at - key.created_at).total_seconds()
    shared = {name: getattr(key, name) for name in ("project_id", "name", "notes", "meta", "scopes")}
    made = create(session, secret, lifetime, **shared)
    over = utcnow() + timedelta(seconds=overlap)
    key.expires_at = over if key.expires_at is None else min(over, key.expires_at)
    key.replaced_by = made.row.id
    return made


def revoke(session: Session, key: ApiKey) -> None:
    """Ends the key, and every session and link of it, at once."""
    key.revoked_at = key.revoked_at or utcnow()
    session.execute(delete(WebSession).where(WebSession.key_id == key.id))


def get(session: Session, project_id: str | None, key_id: str, *, lock: bool = False) -> ApiKey | None:
    """The key of this project; of any project where that is None."""
    query = select(ApiKey).where(ApiKey.id == key_id)
    if project_id is not None:
        query = query.where(ApiKey.project_id == project_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalar(query)


def status(key: ApiKey) -> Status:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= utcnow() else "live"


def having(wanted: Status) -> list[ColumnElement[bool]]:
    """What holds for the keys of this status."""
    if wanted == "live":
        return live()
    if wanted == "revoked":
        return [ApiKey.revoked_at.is_not(None)]
    return [ApiKey.revoked_at.is_(None), ApiKey.expires_at <= utcnow()]


def live(now: Any = None) -> list[ColumnElement[bool]]:
    """What holds for a key that opens something; `now` is a parameter's, where it is not this moment."""
    there = ApiKey.expires_at > (utcnow() if now is None else now)
    return [ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), there)]


TOLD = [getattr(ApiKey, name) for name in Live._fields]
BY_DIGEST = select(*TOLD).where(ApiKey.digest == bindparam("digest"), *live(bindparam("now")))


def find(there: Session | Connection, secret: bytes, key: str) -> Live | None:
    """The live key with this text; looking it up by digest takes the same time whatever the text."""
    found = there.execute(BY_DIGEST, {"digest": digest(secret, key), "now": utcnow()}).first()
    return None if found is None else Live(*found)


def opens(session: Session, key_id: str) -> bool:
    """Whether the key is live still."""
    return session.scalar(select(ApiKey.id).where(ApiKey.id == key_id, *live())) is not None


def lasting_admins(session: Session, project_id: str) -> Sequence[str]:
    """The admin keys of a project that nothing but a revocation ends."""
    query = select(ApiKey).where(ApiKey.project_id == project_id, ApiKey.expires_at.is_(None), *live())
    return [key.id for key in session.scalars(query) if "admin" in key.scopes]


def stale(key: Live) -> bool:
    """Whether `last_used_at` is worth writing again (once a minute is enough)."""
    return key.last_used_at is None or utcnow() - key.last_used_at > timedelta(minutes=1)


def touch(session: Session, key_id: str) -> None:
    key = session.get(ApiKey, key_id)
    if key:
        key.last_used_at = utcnow()
