"""What the page's forms do to a job: cancel it, delete it."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from app.api.deps import Blobs, Db
from app.api.jobs.resource import JobId, found_job
from app.api.problems import ApiProblem
from app.store import jobs
from app.ui.visitors import PageWriter

router = APIRouter(prefix="/jobs/{job_id}", include_in_schema=False)


@router.post("/cancel")
def cancel(job_id: JobId, caller: PageWriter, database: Db, blobs: Blobs) -> RedirectResponse:
    """Asks the job to stop; one that has ended meanwhile stays as it is."""
    with database.transaction() as session:
        job = found_job(session, caller.project_id, job_id, lock=True)
        if job.status not in jobs.FINISHED:
            jobs.cancel(session, blobs, job)
    return RedirectResponse(f"/jobs/{job_id}", 303)


@router.post("/delete")
def delete(job_id: JobId, caller: PageWriter, database: Db, blobs: Blobs) -> RedirectResponse:
    """Deletes a finished job with its scores."""
    with database.transaction() as session:
        job = found_job(session, caller.project_id, job_id, lock=True)
        if job.status not in jobs.FINISHED:
            raise ApiProblem(409, "job_running", f"The job is {job.status}: cancel it first.")
        jobs.delete(session, blobs, job)
    return RedirectResponse("/", 303)
