"""What happened to a job: as a JSON list, or as a stream of server-sent events that follows it to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import SQLAlchemyError

from app.api.deps import Caller, Db, Principal
from app.api.jobs.resource import JobId, found_job
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, responses
from app.store import events, jobs, keys
from app.store.db import Database, away, utcnow
from app.store.tables import Event

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
BATCH = 500
HEARTBEAT = ": still here\n\n"


class EventOut(BaseModel):
    """One event; `id` is null for progress between the stored ones."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 17,
                    "type": "job.started",
                    "created_at": "2026-11-23T21:00:01Z",
                    "data": {"status": "running"},
                }
            ]
        }
    )

    id: int | None
    type: str
    created_at: datetime
    data: dict[str, Any]

    @classmethod
    def of(cls, row: Event) -> EventOut:
        return cls(id=row.id, type=row.type, created_at=row.created_at, data=row.data)


@router.get(
    "/{job_id}/events",
    summary="A job's events",
    response_model=Page[EventOut],
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "A list or a stream.",
        },
        **responses(404),
    },
)
async def get_events(
    request: Request,
    job_id: JobId,
    caller: Caller,
    database: Db,
    paging: PageOf,
    last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
) -> Response:
    """Ask with `Accept: text/event-stream` for a stream; it ends after the job's last event."""
    resume = (
        int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 19 else 0
    )
    streamed = "text/event-stream" in request.headers.get("accept", "")
    binding = "events", job_id
    after = resume if streamed else (paging.after(*binding) or [resume])[0]

    def first() -> Sequence[Event]:
        with database.snapshot() as session:
            found_job(session, caller.project_id, job_id)
            return events.listed(session, job_id, after, 0 if streamed else paging.limit + 1)

    found = await asyncio.to_thread(first)
    if streamed:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = _stream(database, caller, job_id, after)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
    rows, cursor = paging.cut(found, lambda row: [row.id], *binding)
    page = Page[EventOut](data=[EventOut.of(row) for row in rows], next_cursor=cursor)
    return Response(page.model_dump_json(), media_type="application/json")


class _News(NamedTuple):
    """What is new of a job since the last look."""

    events: Sequence[Event]
    progress: dict[str, Any]
    over: bool


async def _stream(database: Database, caller: Principal, job_id: str, after: int) -> AsyncIterator[str]:
    told: dict[str, Any] = {}
    spoken = time.monotonic()
    while (news := await _looked(database, caller, job_id, after)) is not None:
        lines = [_sse(EventOut.of(event)) for event in news.events]
        if not news.events and not news.over and news.progress != told:
            lines = [_sse(EventOut(id=None, type="job.progress", created_at=utcnow(), data=news.progress))]
        if not lines and time.monotonic() - spoken > HEARTBEAT_SECONDS:
            lines = [HEARTBEAT]
        for line in lines:
            yield line
            spoken = time.monotonic()
        told = news.progress
        if news.events:
            after = news.events[-1].id
        if news.over and len(news.events) < BATCH:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _looked(database: Database, caller: Principal, job_id: str, after: int) -> _News | None:
    """As `_look`, waiting for a database that is away."""
    while True:
        try:
            return await asyncio.to_thread(_look, database, caller, job_id, after)
        except SQLAlchemyError as problem:
            if not away(problem):
                raise
            await asyncio.sleep(POLL_SECONDS)


def _look(database: Database, caller: Principal, job_id: str, after: int) -> _News | None:
    """None once the job, or the right to see it, is gone. The job is read before its events:
    who sees its end sees the last of them.
    """
    with database.snapshot() as session:
        job = jobs.get(session, caller.project_id, job_id)
        if job is None or not keys.opens(session, caller.key_id):
            return None
        progress = jobs.progress(session, job)
        return _News(events.listed(session, job_id, after, BATCH), progress, job.status in jobs.FINISHED)


def _sse(event: EventOut) -> str:
    head = "" if event.id is None else f"id: {event.id}\n"
    return f"{head}event: {event.type}\ndata: {event.model_dump_json()}\n\n"
