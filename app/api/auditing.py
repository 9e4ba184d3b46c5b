"""Has every write that came with a key written down before it is answered: who, what, to which resource."""

from __future__ import annotations

import logging
import re
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.store import audit
from app.store.db import Database

log = logging.getLogger(__name__)

WRITES = ("POST", "PUT", "PATCH", "DELETE")
ID = re.compile(r"[a-z]{2,4}_[0-9a-f-]{36}")


class Audited:
    """Writes a line of the audit log for each write whose key is known.

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
            caller = scope.get("state", {}).get("caller")
            if caller is not None:
                await run_in_threadpool(self._write, scope, caller, status, location)

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

    def _write(self, scope: Scope, caller: Any, status: int, location: str) -> None:
        # What was made, else the innermost resource of the path; ids of no shape that we give are not kept.
        named = [location.rpartition("/")[2], *reversed([str(one) for one in scope["path_params"].values()])]
        try:
            with self.database.transaction() as session:
                audit.record(
                    session,
                    project_id=caller.project_id,
                    key_id=caller.key_id,
                    method=scope["method"],
                    route=getattr(scope.get("route"), "path", "unmatched"),
                    subject_id=next((one for one in named if ID.fullmatch(one)), None),
                    status=status,
                    request_id=scope["state"]["request_id"],
                )
        except SQLAlchemyError:
            log.exception("the audit log has no line for request %s", scope["state"]["request_id"])
