"""The routes of jobs of every type: created, followed, cancelled, deleted."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Config, Db
from app.api.idempotency import Answer, OncePost
from app.api.jobs.resource import JobId, Status, found_job
from app.api.jobs.types import JobOut, NewJob, TypeName, create, shown
from app.api.pagination import Page, PageOf, answered
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.quotas import refuse_job
from app.api.resources import NO_NUL, RETRY_AFTER, Edit, edited, tagged
from app.store import jobs, pages
from app.store.jobs import FINISHED
from app.store.tables import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

DRIFTING = {"estimated_finish_at"}


@router.post("", status_code=202, summary="Start a job", response_model=JobOut, responses=responses(404, 409))
def create_job(body: NewJob, caller: Caller, blobs: Blobs, settings: Config, once: OncePost) -> Response:
    """`influence` scores the training samples of runs; `train` trains a network and records the run;
    `evaluate` tells how far to trust the scores on a run, by training it again without some samples.

    The inputs are checked against each other and fixed as they are now before the job is queued.
    """

    def act(session: Session) -> Answer:
        refuse_job(session, settings, caller.project_id)
        job = create(session, blobs, settings, caller.project_id, body)
        session.flush()
        return Answer(202, shown(session, job), {"Location": f"/v1/jobs/{job.id}", **RETRY_AFTER})

    return once.run(act)


@router.get("", summary="List jobs, newest first", response_model=Page[JobOut])
def list_jobs(
    caller: Caller,
    database: Db,
    paging: PageOf,
    status: Annotated[Status | None, Query()] = None,
    type: Annotated[TypeName | None, Query()] = None,  # noqa: A002  (the parameter's name)
    trajectory_id: Annotated[
        str | None, Query(pattern=NO_NUL, description="Jobs over it, alone or among others.")
    ] = None,
) -> Response:
    wanted = {"status": status, "type": type}
    binding = "jobs", caller.project_id, wanted | {"trajectory_id": trajectory_id}
    over = [jobs.over(trajectory_id)] if trajectory_id is not None else []
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, Job, caller.project_id, paging.limit + 1, *over, after=after, **wanted)
        rows, cursor = paging.cut(found, pages.position, *binding)
        done = jobs.completed_each(session, rows)
        data = [shown(session, row, done[row.id]) for row in rows]
    return answered(data, cursor)


@router.get("/{job_id}", summary="One job", response_model=JobOut, responses=responses(404))
def get_job(request: Request, job_id: JobId, caller: Caller, database: Db) -> Response:
    """With an `ETag`; until the job is finished, with `Retry-After`."""
    with database.snapshot() as session:
        body = shown(session, found_job(session, caller.project_id, job_id))
    headers = None if body.status in FINISHED else RETRY_AFTER
    return tagged(request, body, headers=headers, drifting=DRIFTING)


@router.patch("/{job_id}", summary="Rename a job", response_model=JobOut, responses=responses(404, 412))
def edit_job(request: Request, job_id: JobId, edit: Edit, caller: Caller, database: Db) -> Response:
    """With `If-Match` only if it still is the version of that `ETag`."""
    with database.transaction() as session:
        job = found_job(session, caller.project_id, job_id, lock=True)
        return edited(request, edit, job, partial(shown, session), drifting=DRIFTING)


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
