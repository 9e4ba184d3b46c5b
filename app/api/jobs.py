"""Jobs: created from what admission.py lets through, followed, cancelled, deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from app.api.admission import Admitted, admit
from app.api.deps import Blobs, Caller, Db
from app.api.idempotency import Answer, OncePost
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.resources import (
    INT64,
    NO_NUL,
    RETRY_AFTER,
    Body,
    Edit,
    Id,
    Metadata,
    Name,
    Notes,
    named,
    tagged,
)
from app.catalog import DiffIn, Method
from app.catalog.base import refusal
from app.store import jobs, pages
from app.store.blobs import BlobStore
from app.store.db import utcnow
from app.store.jobs import FINISHED
from app.store.tables import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

Status = Literal["queued", "running", "succeeded", "failed", "cancelling", "cancelled"]
MOST_TRAJECTORIES = 32
JobId = Annotated[str, Path(pattern=NO_NUL, examples=["job_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]
EXAMPLE: dict[str, Any] = {
    "type": "influence",
    "trajectory_id": "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "train_dataset_id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "query_dataset_id": "ds_0197f4e7-1a2b-7c5e-9c4f-3f1f2d1f6a52",
    "method": {"name": "diff_in"},
    "seed": 0,
    "name": "what hurts run 7?",
    "metadata": {"git": "abc123"},
}
AVERAGED: dict[str, Any] = {
    "type": "influence",
    "trajectory_ids": [
        "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
        "tr_0197f4e6-3c1d-7c5e-9c4f-3f1f2d1f6a52",
    ],
    "train_dataset_id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "query_dataset_id": "ds_0197f4e7-1a2b-7c5e-9c4f-3f1f2d1f6a52",
    "method": {"name": "diff_in", "resolution": "tail", "parameters": {"include": ["layers.1.*"]}},
}


class QueryPart(Body):
    """Part of the query data set: the samples of these `labels`, or these `indices`, each once."""

    labels: list[Annotated[int, Field(ge=-INT64, le=INT64)]] | None = Field(None, min_length=1)
    indices: list[Annotated[int, Field(ge=0, le=INT64)]] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.labels is None) == (self.indices is None):
            raise refusal("give labels or indices, one of them.")
        if self.indices is not None and len(set(self.indices)) < len(self.indices):
            raise refusal("an index stands more than once in indices.")
        return self


class InfluenceJobIn(Body):
    """What to compute, from what."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE, AVERAGED]})

    type: Literal["influence"]
    trajectory_id: Id | None = None
    trajectory_ids: list[Id] | None = Field(
        None,
        min_length=1,
        max_length=MOST_TRAJECTORIES,
        description="In place of `trajectory_id`: runs of one network, whose scores are averaged.",
    )
    train_dataset_id: Id
    query_dataset_id: Id | None = Field(None, description="May be left out by methods that need none.")
    query: QueryPart | None = Field(None, description="Part of the query data set; all of it if null.")
    method: Method = DiffIn(name="diff_in")
    seed: int = Field(0, ge=0, le=INT64)
    name: Name = ""
    notes: Notes = ""
    metadata: Metadata = Field({})

    @model_validator(mode="after")
    def _runs(self) -> Self:
        if (self.trajectory_id is None) == (self.trajectory_ids is None):
            raise refusal("give exactly one of trajectory_id and trajectory_ids.")
        if self.trajectory_ids and len(set(self.trajectory_ids)) < len(self.trajectory_ids):
            raise refusal("a trajectory stands more than once in trajectory_ids.")
        return self

    @property
    def trajectories(self) -> dict[str, str]:
        """The ids by the field that names each."""
        if self.trajectory_id is not None:
            return {"/trajectory_id": self.trajectory_id}
        return {f"/trajectory_ids/{at}": one for at, one in enumerate(self.trajectory_ids or [])}


class Progress(BaseModel):
    """`completed` of `total` units of work; total is 0 until the job is planned."""

    completed: int
    total: int
    unit: str = Field(examples=["forward_passes"])
    message: str = Field(examples=["scoring"])


class JobOut(BaseModel):
    """A job. `method` holds every option, defaults filled in; `result` and `error` come at its end."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "notes": "",
                    "status": "running",
                    "created_at": "2026-11-23T21:00:00Z",
                    "query": None,
                    "trajectory_ids": ["tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"],
                    "checkpoint_ids": ["ck_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"],
                    "progress": {
                        "completed": 20000,
                        "total": 60000,
                        "unit": "forward_passes",
                        "message": "scoring",
                    },
                    "attempt": 1,
                    "started_at": "2026-11-23T21:00:01Z",
                    "finished_at": None,
                    "estimated_finish_at": "2026-11-23T21:00:31Z",
                    "error": None,
                    "result": None,
                    **EXAMPLE,
                }
            ]
        }
    )

    id: str
    type: Literal["influence"]
    status: Status
    name: str
    notes: str
    metadata: dict[str, str]
    trajectory_id: str | None = Field(description="null for a job over several.")
    trajectory_ids: list[str]
    train_dataset_id: str | None
    query_dataset_id: str | None
    query: dict[str, Any] | None
    method: dict[str, Any]
    seed: int
    checkpoint_ids: list[str]
    progress: Progress
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    estimated_finish_at: datetime | None
    error: dict[str, Any] | None
    result: dict[str, Any] | None


_PLAIN = JobOut.model_fields.keys() - {
    "id",
    "name",
    "notes",
    "metadata",
    "created_at",
    "progress",
    "estimated_finish_at",
}


def shown(session: Session, job: Job, done: int | None = None) -> JobOut:
    """The job as clients see it; `done` spares the query of its progress where it is known."""
    progress = Progress(**jobs.progress(session, job, done))
    values = named(job) | {name: getattr(job, name) for name in _PLAIN}
    return JobOut(**values, progress=progress, estimated_finish_at=_finish(job, progress))


def _finish(job: Job, progress: Progress) -> datetime | None:
    """When the job will be done if it goes on as it went so far."""
    if job.status != "running" or job.started_at is None or not progress.completed:
        return None
    now = utcnow()
    return now + (now - job.started_at) * (progress.total / progress.completed - 1)


def admitted(session: Session, blobs: BlobStore, project_id: str, body: InfluenceJobIn) -> Admitted:
    """The body's inputs, or the problem that keeps it from running."""
    return admit(
        session,
        blobs,
        project_id,
        trajectories=body.trajectories,
        train_id=body.train_dataset_id,
        query_id=body.query_dataset_id,
        labels=body.query.labels if body.query else None,
        indices=body.query.indices if body.query else None,
        method=body.method,
    )


@router.post("", status_code=202, summary="Start a job", response_model=JobOut, responses=responses(404, 409))
def create_job(body: InfluenceJobIn, caller: Caller, blobs: Blobs, once: OncePost) -> Response:
    """Checks that the inputs fit each other, fixes the checkpoints as they are now, and queues the job."""

    def create(session: Session) -> Answer:
        inputs = admitted(session, blobs, caller.project_id, body)
        job = jobs.create(
            session,
            project_id=caller.project_id,
            meta=body.metadata,
            checkpoint_ids=[one.id for one in inputs.checkpoints],
            plan=None,
            query=body.query.model_dump(exclude_none=True) if body.query else None,
            trajectory_ids=list(body.trajectories.values()),
            **body.model_dump(exclude={"metadata", "query", "trajectory_id", "trajectory_ids"}),
        )
        session.flush()
        return Answer(202, shown(session, job), {"Location": f"/v1/jobs/{job.id}", **RETRY_AFTER})

    return once.run(create)


@router.get("", summary="List jobs, newest first")
def list_jobs(
    caller: Caller,
    database: Db,
    paging: PageOf,
    status: Annotated[Status | None, Query()] = None,
    type: Annotated[Literal["influence"] | None, Query()] = None,  # noqa: A002  (the parameter's name)
    trajectory_id: Annotated[
        str | None, Query(pattern=NO_NUL, description="Jobs over it, alone or among others.")
    ] = None,
) -> Page[JobOut]:
    wanted = {"status": status, "type": type}
    binding = "jobs", caller.project_id, wanted | {"trajectory_id": trajectory_id}
    over = [jobs.over(trajectory_id)] if trajectory_id is not None else []
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, Job, caller.project_id, paging.limit + 1, *over, after=after, **wanted)
        rows, cursor = paging.cut(found, pages.position, *binding)
        done = jobs.completed_each(session, rows)
        data = [shown(session, row, done[row.id]) for row in rows]
    return Page(data=data, next_cursor=cursor)


@router.get("/{job_id}", summary="One job", response_model=JobOut, responses=responses(404))
def get_job(request: Request, job_id: JobId, caller: Caller, database: Db) -> Response:
    """With an `ETag`; until the job is finished, with `Retry-After`."""
    with database.snapshot() as session:
        body = shown(session, found_job(session, caller.project_id, job_id))
    headers = None if body.status in FINISHED else RETRY_AFTER
    return tagged(request, body, headers=headers, drifting={"estimated_finish_at"})


@router.patch("/{job_id}", summary="Rename a job", responses=responses(404))
def edit_job(job_id: JobId, edit: Edit, caller: Caller, database: Db) -> JobOut:
    with database.transaction() as session:
        job = found_job(session, caller.project_id, job_id)
        edit.apply(job)
        return shown(session, job)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_model=JobOut,
    responses={200: {"model": JobOut, "description": "It was cancelled already."}, **responses(404, 409)},
)
def cancel_job(job_id: JobId, caller: Caller, blobs: Blobs, once: OncePost) -> Response:
    """The block in hand is finished, the rest dropped: `cancelling`, then `cancelled`."""

    def cancel(session: Session) -> Answer:
        job = found_job(session, caller.project_id, job_id, lock=True)
        over = job.status == "cancelled"
        try:
            jobs.cancel(session, blobs, job)
        except jobs.JobStateError as refused:
            detail = f"The job has {refused.status} already; there is nothing left to cancel."
            raise ApiProblem(409, "job_finished", detail) from refused
        session.flush()
        return Answer(200 if over else 202, shown(session, job))

    return once.run(cancel)


@router.delete("/{job_id}", status_code=204, summary="Delete a finished job", responses=responses(404, 409))
def delete_job(job_id: JobId, caller: Caller, database: Db, blobs: Blobs) -> None:
    """With its scores and events. A job that is not finished must be cancelled first."""
    with database.transaction() as session:
        job = found_job(session, caller.project_id, job_id, lock=True)
        try:
            jobs.delete(session, blobs, job)
        except jobs.JobStateError as refused:
            detail = f"The job is {refused.status}: cancel it first, or wait for its end."
            raise ApiProblem(409, "job_running", detail) from refused


def found_job(session: Session, project_id: str, job_id: str, *, lock: bool = False) -> Job:
    """The job, or 404."""
    job = jobs.get(session, project_id, job_id)
    if job is not None and lock:
        job = jobs.locked(session, job_id)
    if job is None:
        raise not_found("job", job_id)
    return job
