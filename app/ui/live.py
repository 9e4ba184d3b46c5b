"""What is not finished, followed by one stream a page: server-sent events of jobs and selections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.api.deps import Db, Principal
from app.api.resources import NO_NUL
from app.store import jobs, keys, selections
from app.store.db import Database
from app.store.tables import Job, Selection
from app.ui.shell import number, spoken
from app.ui.visitors import PageCaller

router = APIRouter(include_in_schema=False)

EVERY = 1.0  # seconds
QUIET = 15  # looks without news before a sign of life
MOST = 200  # jobs followed at once


@router.get("/live")
async def follow(
    caller: PageCaller,
    database: Db,
    ids: Annotated[str, Query(max_length=20_000, pattern=NO_NUL)] = "",
) -> StreamingResponse:
    """`job` events tell how a job stands, whenever that changes; `changed` that some came or ended: `jobs` or
    `selections`. Selections are told of as jobs are. Those that `ids` names are told of once though they have
    ended: they may have while the page was on its way.
    """
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = _stream(database, caller.principal, set(ids.split(",")[:MOST]))
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _stream(database: Database, caller: Principal, shown: set[str]) -> AsyncIterator[str]:
    told: dict[str, dict[str, Any]] | None = None
    quiet = 0
    followed = shown
    while (standing := await asyncio.to_thread(_look, database, caller, followed)) is not None:
        unfinished = {name for name, one in standing.items() if one["status"] not in jobs.FINISHED}
        news = [one for name, one in standing.items() if told is None or told.get(name) != one]
        for one in news:
            yield f"event: job\ndata: {json.dumps(one)}\n\n"
        if told is not None and unfinished != set(told):
            for what in _kinds(unfinished ^ set(told)):
                yield f"event: changed\ndata: {json.dumps(what)}\n\n"
        quiet = 0 if news else quiet + 1
        if quiet and quiet % QUIET == 0:
            yield ": still here\n\n"
        told = {name: standing[name] for name in unfinished}
        followed = unfinished
        await asyncio.sleep(EVERY)


def _look(database: Database, caller: Principal, followed: set[str]) -> dict[str, dict[str, Any]] | None:
    """The jobs and selections of the project that are unfinished, and those `followed`; None once the key
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
        standing = {job.id: _told(session, job, done[job.id]) for job in found}
        unfinished = Selection.status.not_in(selections.FINISHED) | Selection.id.in_(followed)
        chosen = select(Selection).where(Selection.project_id == caller.project_id, unfinished)
        for one in session.scalars(chosen.order_by(Selection.id.desc()).limit(MOST)):
            standing[one.id] = _chosen(session, one)
        return standing


def _kinds(ids: set[str]) -> set[str]:
    return {"selections" if one.startswith("sel_") else "jobs" for one in ids}


def _chosen(session: Session, selection: Selection) -> dict[str, Any]:
    done, total = selections.progress(session, selection)
    waiting = {"queued": "waiting for a worker", "running": "choosing"}
    message = "training again" if total and selection.request.get("verify") else None
    return {
        "id": selection.id,
        "status": selection.status,
        "message": message or waiting.get(selection.status, selection.status),
        "figures": f"{number(done)} of {number(total)} parts",
        "completed": done,
        "total": total,
    }


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
