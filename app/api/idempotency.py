"""`Idempotency-Key`: the same POST sent twice is done once, and answered twice alike.

The key is marked as in flight in a transaction of its own; what the request makes and the answer to it are
then kept in one transaction, so that there is never the one without the other. A refusal frees the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.api.deps import Caller, Config, Db, Principal
from app.api.problems import ApiProblem
from app.store import idempotency
from app.store.db import Database
from app.store.tables import IdempotencyKey

# after which a request that left no answer counts as dead; should it answer yet, it finds its mark gone
IN_FLIGHT_SECONDS = 10.0


class Answer(NamedTuple):
    """What a POST answers."""

    status: int
    body: BaseModel
    headers: Mapping[str, str] = {}
    kept: BaseModel | None = None  # what is replayed, where the body holds a secret


class Once(NamedTuple):
    """The way a POST is done: in one transaction, once for its key."""

    database: Database
    principal: Principal
    key: str | None
    fingerprint: str
    keep_seconds: float

    def run(self, act: Callable[[Session], Answer]) -> Response:
        """The answer of `act`, or the one it gave before.

        Raises:
            ApiProblem: 409 `request_in_flight`; 422 `idempotency_key_reused`.
        """
        if self.key is None:
            with self.database.transaction() as session:
                answer = act(session)
                body = answer.body.model_dump_json()  # what cannot be told is not kept either
            return _response(answer.status, body, answer.headers)
        mark = self._reserve(self.key)
        if isinstance(mark, Response):
            return mark
        try:
            with self.database.transaction() as session:
                answer = act(session)
                body = answer.body.model_dump_json()
                replayed = (answer.kept or answer.body).model_dump_json()
                kept = {"status_code": answer.status, "headers": dict(answer.headers), "body": replayed}
                owner = self.principal.project_id, self.key, mark
                if not idempotency.settle(session, *owner, self.keep_seconds, kept):
                    raise _in_flight()
        except BaseException:
            with self.database.transaction() as session:
                idempotency.release(session, self.principal.project_id, self.key, mark)
            raise
        return _response(answer.status, body, answer.headers)

    def with_body(self, *parts: str) -> Once:
        """The same for a body that was not JSON, told by its parts."""
        return self._replace(fingerprint=_digest(self.fingerprint, *parts))

    def _reserve(self, key: str) -> float | Response:
        with self.database.transaction() as session:
            found = idempotency.reserve(
                session, self.principal.project_id, key, self.fingerprint, IN_FLIGHT_SECONDS
            )
        if isinstance(found, float):
            return found
        if found is not None and found.fingerprint != self.fingerprint:
            detail = f"The Idempotency-Key {key!r} came with another request before; take a new one for this."
            raise ApiProblem(
                422, "idempotency_key_reused", detail, errors=[("header:idempotency-key", detail)]
            )
        if found is None or found.status_code is None:
            raise _in_flight()
        return _replay(found, found.status_code)


def _in_flight() -> ApiProblem:
    detail = "The first request with this Idempotency-Key is not answered yet; ask again in a moment."
    return ApiProblem(409, "request_in_flight", detail, headers={"Retry-After": "1"})


def _replay(row: IdempotencyKey, status: int) -> Response:
    return _response(status, row.body or "", {**(row.headers or {}), "Idempotency-Replayed": "true"})


def _response(status: int, body: str, headers: Mapping[str, str]) -> Response:
    return Response(body, status, dict(headers), "application/json")


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def _once(
    request: Request,
    principal: Caller,
    settings: Config,
    database: Db,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="A key of your choice: sent again, it replays the first answer.",
        ),
    ] = None,
) -> Once:
    return Once(
        database,
        principal,
        key,
        await _fingerprint(request) if key else "",
        settings.idempotency_hours * 3600,
    )


async def _fingerprint(request: Request) -> str:
    """Of method, path and canonical JSON; a multipart body is added when it has been read."""
    where = request.method, request.url.path
    if request.headers.get("content-type", "").startswith("multipart/"):
        return _digest(*where)
    body = await request.body()
    try:
        canonical = json.dumps(json.loads(body or b"null"), sort_keys=True, separators=(",", ":"))
    except ValueError:
        canonical = body.hex()
    return _digest(*where, canonical)


OncePost = Annotated[Once, Depends(_once)]
