"""What routes are given: settings, database, blobs, and who is asking."""

from __future__ import annotations

import logging
from math import ceil
from typing import Annotated, NamedTuple

from fastapi import BackgroundTasks, Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError

from app.api import auditing, cookies
from app.api.buckets import Buckets
from app.api.problems import ApiProblem
from app.settings import Settings
from app.store import keys, sessions
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.keys import Live

log = logging.getLogger(__name__)

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="API key",
    description="`Authorization: Bearer <key>`, as printed at the start.",
)


cookie = APIKeyCookie(
    name=cookies.NAME,
    auto_error=False,
    scheme_name="Session",
    description=f"The page's session; writes need its token in `{cookies.CSRF_HEADER}` as well.",
)


class Principal(NamedTuple):
    """Whose key it is, and what it may do."""

    project_id: str
    scopes: frozenset[str]
    key_id: str


# Async, so that looking up an attribute costs no trip to a thread.
async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _blobs(request: Request) -> BlobStore:
    blobs: BlobStore = request.app.state.blobs
    return blobs


Config = Annotated[Settings, Depends(_settings)]
Db = Annotated[Database, Depends(_database)]
Blobs = Annotated[BlobStore, Depends(_blobs)]


def _authenticated(
    request: Request,
    background: BackgroundTasks,
    settings: Config,
    database: Db,
    sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    session_token: Annotated[str | None, Depends(cookie)],
) -> Principal:
    """Who asks, by key or by the page's session. Reading wants the scope `read`, anything else `write`;
    `admin` may do both.

    Raises:
        ApiProblem: 401 without a live key, 403 with one of too little scope, or when a write by cookie is not
            the page's own.
    """
    if sent is not None:
        text = sent.credentials.encode("latin-1").decode(errors="replace")  # headers arrive as latin-1
        with database.asking() as connection:
            key = keys.find(connection, settings.secret, text)
        if key is None:
            raise _unauthorized("No live API key reads so; the service prints its first key at the start.")
    elif session_token is not None:
        key = signed_in(settings, database, session_token)
        if key is None:
            raise _unauthorized("This session is over; sign in again at /sign-in, or send an API key.")
        if request.method not in cookies.SAFE:
            token = sessions.csrf_token(settings.secret, session_token)
            cookies.refuse_forged(request, token, request.headers.get(cookies.CSRF_HEADER))
    else:
        raise _unauthorized("Send an API key: Authorization: Bearer <key>.")
    return permitted(request, background, database, key)


def signed_in(settings: Settings, database: Database, session_token: str) -> Live | None:
    """The live key of the session with this token."""
    with database.asking() as connection:
        return sessions.find(connection, settings.secret, session_token)


def permitted(request: Request, background: BackgroundTasks, database: Database, key: Live) -> Principal:
    """What the key may do, its use being noted. Raises 403 when this request wants a scope that it
    lacks, 429 when the key asks too often.
    """
    principal = Principal(key.project_id, frozenset(key.scopes), key.id)
    requests: Buckets = request.app.state.requests
    if wait := requests.take(key.id):
        detail = f"This key asks more often than {requests.rate:g} times a second: wait, then ask again."
        raise ApiProblem(429, "too_many_requests", detail, headers={"Retry-After": str(ceil(wait))})
    auditing.begin(request, database, key.project_id, key.id)
    if keys.stale(key):
        background.add_task(_touch, database, key.id)
    needed = "read" if request.method in ("GET", "HEAD") else "write"
    if not {needed, "admin"} & set(key.scopes):
        raise ApiProblem(
            403, "forbidden", f"This key lacks the scope '{needed}'; it has {', '.join(key.scopes)}."
        )
    return principal


def _unauthorized(detail: str) -> ApiProblem:
    return ApiProblem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _touch(database: Database, key_id: str) -> None:
    try:
        with database.transaction() as session:
            keys.touch(session, key_id)
    except SQLAlchemyError as problem:  # nobody waits for this, and the next request tries again
        log.warning("last_used_at of %s not written: %s", key_id, problem)


Caller = Annotated[Principal, Depends(_authenticated)]


def _ruling(caller: Caller) -> Principal:
    """Raises 403 without the scope `admin`."""
    if "admin" not in caller.scopes:
        raise ApiProblem(
            403, "forbidden", f"This key lacks the scope 'admin'; it has {', '.join(sorted(caller.scopes))}."
        )
    return caller


Admin = Annotated[Principal, Depends(_ruling)]
