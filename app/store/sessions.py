"""Sessions of the page, and links that open one: random tokens, each kept as a keyed hash beside its key.

A session lives no longer than its key: it is found through it.
"""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.orm import Session

from app.store import keys
from app.store.db import database_epoch, epoch, utcnow
from app.store.tables import ApiKey, WebSession

OF_TOKEN = (
    select(*keys.TOLD)
    .join(WebSession, WebSession.key_id == ApiKey.id)
    .where(WebSession.digest == bindparam("digest"), WebSession.kind == "session")
    .where(WebSession.expires_at > epoch(), *keys.live(bindparam("now")))
)


def start(session: Session, secret: bytes, key_id: str, seconds: float) -> str:
    """The token of a new session of the key, good for `seconds`."""
    return _issue(session, secret, key_id, seconds, "session")


def find(there: Session | Connection, secret: bytes, token: str) -> keys.Live | None:
    """The live key that the session with this token belongs to."""
    asked = {"digest": keys.digest(secret, token), "now": utcnow()}
    found = there.execute(OF_TOKEN, asked).first()
    return None if found is None else keys.Live(*found)


def end(session: Session, secret: bytes, token: str) -> None:
    session.execute(delete(WebSession).where(WebSession.digest == keys.digest(secret, token)))


def csrf_token(secret: bytes, token: str) -> str:
    """What a write by this session brings along: another site can have the cookie sent, not read this."""
    return keys.digest(secret, f"writes of {token}")


def invite(session: Session, secret: bytes, key_id: str, seconds: float) -> str:
    """A token that starts one session of the key, once, within `seconds`."""
    return _issue(session, secret, key_id, seconds, "link")


def redeem(session: Session, secret: bytes, token: str) -> ApiKey | None:
    """The key of an invitation, which is used up: of two who come with it only one is let in."""
    mine = WebSession.digest == keys.digest(secret, token), WebSession.kind == "link"
    used = delete(WebSession).where(*mine, WebSession.expires_at > epoch()).returning(WebSession.key_id)
    key_id = session.scalar(used)
    return session.scalar(select(ApiKey).where(ApiKey.id == key_id, *keys.live()))


def purge(session: Session) -> None:
    """Forgets what has expired."""
    session.execute(delete(WebSession).where(WebSession.expires_at < epoch()))


def _issue(session: Session, secret: bytes, key_id: str, seconds: float, kind: str) -> str:
    token = secrets.token_urlsafe(32)
    session.add(
        WebSession(
            digest=keys.digest(secret, token),
            kind=kind,
            key_id=key_id,
            created_at=utcnow(),
            expires_at=database_epoch(session) + seconds,
        )
    )
    return token
