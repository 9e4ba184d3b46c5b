"""What jobs of every type have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.api.problems import ApiProblem, not_found
from app.api.resources import NO_NUL, Body, Metadata, Name, Notes, named
from app.store import jobs
from app.store.db import utcnow
from app.store.tables import Job

Status = Literal["queued", "running", "succeeded", "failed", "cancelling", "cancelled"]
JobId = Annotated[str, Path(pattern=NO_NUL, examples=["job_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]


class JobIn(Body):
    """What may be said of a job of any type."""

    name: Name = ""
    notes: Notes = ""
    metadata: Metadata = Field({})


class Progress(BaseModel):
    """`completed` of `total` units of work; total is 0 until the job is planned."""

    completed: int
    total: int
    unit: str = Field(examples=["forward_passes"])
    message: str = Field(examples=["scoring"])


class JobFields(BaseModel):
    """How a job of any type stands; `result` and `error` come at its end."""

    id: str
    status: Status
    name: str
    notes: str
    metadata: dict[str, str]
    trajectory_id: str | None = Field(description="null for a job over none, or over several.")
    train_dataset_id: str | None
    query_dataset_id: str | None
    seed: int | None
    progress: Progress
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    estimated_finish_at: datetime | None
    error: dict[str, Any] | None
    result: dict[str, Any] | None


COMPUTED = {"id", "name", "notes", "metadata", "created_at", "progress", "estimated_finish_at"}
RUNNING: dict[str, Any] = {
    "id": "job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "notes": "",
    "status": "running",
    "created_at": "2026-11-23T21:00:00Z",
    "attempt": 1,
    "started_at": "2026-11-23T21:00:01Z",
    "finished_at": None,
    "estimated_finish_at": "2026-11-23T21:00:31Z",
    "error": None,
    "result": None,
}


def fields(session: Session, job: Job, done: int | None = None) -> dict[str, Any]:
    """The values of `JobFields`; `done` spares the query of its progress where it is known."""
    progress = Progress(**jobs.progress(session, job, done))
    plain = JobFields.model_fields.keys() - COMPUTED
    return (
        named(job)
        | {name: getattr(job, name) for name in plain}
        | {"progress": progress, "estimated_finish_at": _finish(job, progress)}
    )


def _finish(job: Job, progress: Progress) -> datetime | None:
    """When the job will be done if it goes on as it went so far."""
    if job.status != "running" or job.started_at is None or not progress.completed:
        return None
    now = utcnow()
    return now + (now - job.started_at) * (progress.total / progress.completed - 1)


def found_job(
    session: Session, project_id: str, job_id: str, *, lock: bool = False, pointer: str | None = None
) -> Job:
    """The job, or 404."""
    job = jobs.get(session, project_id, job_id)
    if job is not None and lock:
        job = jobs.locked(session, job_id)
    if job is None:
        raise not_found("job", job_id, pointer)
    return job


def not_of_this_type(job: Job, hint: str) -> ApiProblem:
    """409 for what only jobs of another type have."""
    return ApiProblem(409, "wrong_job_type", f"The job {job.id} is of type '{job.type}': {hint}")
