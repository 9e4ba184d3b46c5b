"""Has every write that came with a key written down: who and what before it begins, its status before it is
answered.
"""

from __future__ import annotations

import logging
import re

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.store import audit
from app.store.db import Database

log = logging.getLogger(__name__)

WRITES = ("POST", "PUT", "PATCH", "DELETE")
ID = re.compile(r"[a-z]{2,4}_[0-9a-f-]{36}")


def begin(request: Request, database: Database, project_id: str, key_id: str) -> None:
    """Writes the line of a write that is about to begin; what cannot be written down is not done."""
    if request.method not in WRITES:
        return
    with database.telling() as connection:
        request.state.audit_event = audit.begin(
            connection,
            project_id=project_id,
            key_id=key_id,
            method=request.method,
            route=getattr(request.scope.get("route"), "path", "unmatched"),
            subject_id=_innermost([str(one) for one in request.path_params.values()]),
            request_id=request.state.request_id,
        )


class Audited:
    """Adds its status to the line of each write.

    Before the answer goes out, so that nobody hears of a success that the log does not know. The write itself
    is committed by then; should the log fail, the answer is given and the failure is in the service's log.
    """

    def __init__(self, app: ASGIApp, database: Database) -> None:
        self.app, self.database = app, database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in WRITES:
            await self.app(scope, receive, send)
            return
        told = False

        async def tell(status: int, location: str = "") -> None:
            nonlocal told
            told = True
            event_id = scope.get("state", {}).get("audit_event")
            if event_id is not None:
                await run_in_threadpool(self._end, scope, event_id, status, location)

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start" and not told:
                location = Headers(raw=message.get("headers", [])).get("location", "")
                await tell(message["status"], location if message["status"] in (201, 202) else "")
            await send(message)

        try:
            await self.app(scope, receive, send_told)
        except Exception:
            if not told:
                await tell(500)
            raise

    def _end(self, scope: Scope, event_id: str, status: int, location: str) -> None:
        try:
            with self.database.telling() as connection:
                audit.end(connection, event_id, status, _innermost([location.rpartition("/")[2]]))
        except SQLAlchemyError:
            log.exception("the audit log does not know how %s was answered", scope["state"]["request_id"])


def _innermost(named: list[str]) -> str | None:
    """The last of these that is an id; what is of no shape that we give is not kept."""
    return next((one for one in reversed(named) if ID.fullmatch(one)), None)
