"""The first page: jobs and how they stand, what failed and why, and what is stored."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Config, Db
from app.api.health import alive_seconds
from app.store import jobs, pages, workers
from app.store.blobs import BlobStore
from app.store.tables import Dataset, Job, Trajectory
from app.ui import state
from app.ui.shell import render
from app.ui.visitors import PageCaller

router = APIRouter(include_in_schema=False)

SHOWN = 50  # jobs a page


@router.get("/")
def show(
    request: Request,
    caller: PageCaller,
    settings: Config,
    database: Db,
    blobs: Blobs,
    before: Annotated[str | None, Query()] = None,
) -> HTMLResponse:
    """Jobs, newest first."""
    with database.snapshot() as session:
        rows, older = pages.older(session, Job, caller.project_id, SHOWN, before)
        done = jobs.completed_each(session, rows)
        return render(
            request,
            "overview.html",
            caller=caller,
            here="overview",
            jobs=[
                told | _course(session, job, done[job.id])
                for job, told in zip(rows, state.rows(session, rows), strict=True)
            ],
            next=older,
            first=before is None,
            storage=_storage(session, blobs, caller.project_id),
            workers=len(workers.alive(session, alive_seconds(settings))),
        )


def _course(session: Session, job: Job, done: int) -> dict[str, Any]:
    """How far it is, and how long it took."""
    return {
        "progress": jobs.progress(session, job, done),
        "seconds": jobs.seconds_running(job) if job.started_at else None,
    }


def _storage(session: Session, blobs: BlobStore, project_id: str) -> dict[str, int]:
    """What the project keeps, and how much the service keeps in all."""
    counts = {
        name: session.execute(
            select(func.count()).select_from(table).where(table.project_id == project_id)
        ).scalar_one()
        for name, table in (("datasets", Dataset), ("trajectories", Trajectory), ("jobs", Job))
    }
    _, kept, free = blobs.usage(session)
    return counts | {"bytes": kept, "free": free}
