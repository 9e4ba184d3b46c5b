"""What is not finished, followed by one stream a page: server-sent events of jobs and selections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.api.deps import Db, Principal
from app.store import jobs, keys
from app.store.db import Database
from app.store.tables import Job
from app.ui.shell import number, spoken
from app.ui.visitors import PageCaller

router = APIRouter(include_in_schema=False)

EVERY = 1.0  # seconds
QUIET = 15  # looks without news before a sign of life
MOST = 200  # jobs followed at once


@router.get("/live")
async def follow(request: Request, caller: PageCaller, database: Db) -> StreamingResponse:
    """`job` events tell how a job stands, whenever that changes; `changed` that some job came or ended."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = _stream(database, caller.principal)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _stream(database: Database, caller: Principal) -> AsyncIterator[str]:
    told: dict[str, dict[str, Any]] | None = None
    quiet = 0
    while (standing := await asyncio.to_thread(_look, database, caller, set(told or ()))) is not None:
        unfinished = {name for name, one in standing.items() if one["status"] not in jobs.FINISHED}
        news = [one for name, one in standing.items() if told is None or told.get(name) != one]
        for one in news:
            yield f"event: job\ndata: {json.dumps(one)}\n\n"
        if told is not None and unfinished != set(told):
            yield "event: changed\ndata: {}\n\n"
        quiet = 0 if news else quiet + 1
        if quiet and quiet % QUIET == 0:
            yield ": still here\n\n"
        told = {name: standing[name] for name in unfinished}
        await asyncio.sleep(EVERY)


def _look(database: Database, caller: Principal, followed: set[str]) -> dict[str, dict[str, Any]] | None:
    """The jobs of the project that are unfinished, and those that were when last looked at; None once the key
    opens nothing any more.
    """
    with database.snapshot() as session:
        if not keys.opens(session, caller.key_id):
            return None
        open_ones = (
            select(Job)
            .where(
                Job.project_id == caller.project_id, Job.status.not_in(jobs.FINISHED) | Job.id.in_(followed)
            )
            .order_by(Job.id.desc())
            .limit(MOST)
        )
        found = session.scalars(open_ones).all()
        done = jobs.completed_each(session, found)
        return {job.id: _told(session, job, done[job.id]) for job in found}


def _told(session: Session, job: Job, done: int) -> dict[str, Any]:
    progress = jobs.progress(session, job, done)
    figures = f"{number(progress['completed'])} of {number(progress['total'])} {spoken(progress['unit'])}"
    return {
        "id": job.id,
        "status": job.status,
        "message": progress["message"],
        "figures": figures,
        "completed": progress["completed"],
        "total": progress["total"],
    }
