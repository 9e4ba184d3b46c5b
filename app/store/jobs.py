"""Jobs and their states. No other file changes a job's status.

    queued ──start──▶ running ──succeed──▶ succeeded
       │                 ├────── fail ───▶ failed
       └─── cancel ──────┴─▶ cancelling ─▶ cancelled     (once no unit of its work is running)

Whoever changes a job's work holds the job's row lock first, so that two workers that finish at the same time
see each other. The last transition, its event and the end of the work are one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, func, literal, select
from sqlalchemy.orm import Session, joinedload

from app.store import (
    columns,
    decisions,
    evaluations,
    events,
    exports,
    scores,
    selections,
    training,
    webhooks,
    work,
)
from app.store.blobs import BlobStore
from app.store.db import Json, new_id, same_json, utcnow
from app.store.tables import Job, JobTrajectory, Trajectory, Work

FINISHED = ("succeeded", "failed", "cancelled")


class Type(NamedTuple):
    """What jobs of a type begin with, what their progress is counted in, and what they do meanwhile."""

    first: str
    unit: str
    doing: str


TYPES = {
    "influence": Type(first="plan", unit="forward_passes", doing="scoring"),
    "train": Type(first="prepare", unit="steps", doing="training"),
    "evaluate": Type(first="survey", unit="retrainings", doing="retraining"),
}


# in one statement, its trajectories as well
ONE = (
    select(Job)
    .where(Job.id == bindparam("id"), Job.project_id == bindparam("project_id"))
    .options(joinedload(Job.runs))
)


class JobStateError(Exception):
    """The job's state does not allow this; `status` says which state it is in."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the job is {status}")
        self.status = status


def create(session: Session, *, type: str, trajectory_ids: Sequence[str] = (), **values: Any) -> Job:  # noqa: A002
    """A queued job over these trajectories, and the one unit of work that plans the rest."""
    runs = [JobTrajectory(position=at, trajectory_id=one) for at, one in enumerate(trajectory_ids)]
    job = Job(id=new_id("job"), type=type, status="queued", runs=runs, **values)
    session.add(job)
    work.add(session, TYPES[type].first, job.id, job.project_id)
    events.append(session, job.id, "job.queued", {"status": "queued"})
    return job


def get(session: Session, project_id: str, job_id: str) -> Job | None:
    return session.scalars(ONE, {"id": job_id, "project_id": project_id}).unique().one_or_none()


def locked(session: Session, job_id: str, *, patient: bool = True) -> Job | None:
    """The job with its row locked until the end of the transaction.

    Impatient, it is None where somebody else holds the lock.
    """
    query = select(Job).where(Job.id == job_id).with_for_update(skip_locked=not patient)
    return session.scalar(query.execution_options(populate_existing=True))


def cancelling(session: Session) -> Sequence[str]:
    """Ids of the jobs that are being cancelled."""
    return session.scalars(select(Job.id).where(Job.status == "cancelling")).all()


def ended_before(session: Session, moment: datetime, limit: int = 1000) -> Sequence[str]:
    """Ids of the jobs that ended longest ago, before this moment."""
    old = Job.status.in_(FINISHED), Job.finished_at < moment
    return session.scalars(select(Job.id).where(*old).order_by(Job.finished_at).limit(limit)).all()


def over(trajectory_id: str) -> ColumnElement[bool]:
    """Whether a job is over this trajectory, alone or among others."""
    return Job.runs.any(JobTrajectory.trajectory_id == trajectory_id)


def naming(*, dataset_id: str | None = None, trajectory_id: str | None = None) -> ColumnElement[bool]:
    """Whether a job names this trajectory, or else this data set, as training or as query set."""
    if trajectory_id is not None:
        return over(trajectory_id)
    return (Job.train_dataset_id == dataset_id) | (Job.query_dataset_id == dataset_id)


def using(
    session: Session,
    *,
    dataset_id: str | None = None,
    trajectory_id: str | None = None,
    unfinished: bool = False,
) -> Sequence[str]:
    """Ids of some jobs that name this data set or trajectory; only of those still to be done, if asked so."""
    query = select(Job.id).where(
        naming(dataset_id=dataset_id, trajectory_id=trajectory_id),
        Job.status.not_in(FINISHED if unfinished else ()),
    )
    return session.scalars(query.order_by(Job.id).limit(5)).all()


def using_checkpoint(session: Session, trajectory_id: str, checkpoint_id: str) -> Sequence[str]:
    """Ids of some jobs that were frozen on this checkpoint. The caller holds the trajectory's lock."""
    query = select(Job.id, Job.checkpoint_ids).where(over(trajectory_id)).order_by(Job.id)
    return [job_id for job_id, checkpoints in session.execute(query) if checkpoint_id in checkpoints][:5]


def last_succeeded(
    session: Session,
    project_id: str,
    kind: str,
    limit: int,
    *,
    trajectory_id: str | None = None,
    architecture: dict[str, Any] | None = None,
    method: str | None = None,
) -> Sequence[Job]:
    """The latest successes of a type on this trajectory, or on any of this architecture, by any method or by
    this one: what a next job may cost.
    """
    query = select(Job).where(Job.project_id == project_id, Job.type == kind, Job.status == "succeeded")
    if trajectory_id is not None:
        query = query.where(over(trajectory_id))
    if architecture is not None:
        runs = select(Trajectory.id).where(_alike(Trajectory.architecture, architecture))
        over_such = Job.runs.any(JobTrajectory.trajectory_id.in_(runs))
        query = query.where(over_such | _alike(Job.request["architecture"], architecture))
    if method is not None:
        query = query.where(Job.method["name"].as_string() == method)
    return session.scalars(query.order_by(Job.finished_at.desc()).limit(limit)).all()


def _alike(column: Any, architecture: dict[str, Any]) -> ColumnElement[bool]:
    """Whether a column tells of this architecture, its sizes included; graphs (their config has a
    `structure`) are of one where that is the same.
    """
    alike: ColumnElement[bool] = column["name"].as_string() == architecture["name"]
    if structure := architecture["config"].get("structure"):
        alike &= column["config"]["structure"].as_string() == structure
    else:
        alike &= same_json(column["config"], literal(architecture["config"], Json))
    return alike


def count_by_status(session: Session) -> dict[str, int]:
    counted = session.execute(select(Job.status, func.count()).group_by(Job.status))
    return dict(counted.all())


def completed_each(session: Session, jobs: Sequence[Job]) -> dict[str, int]:
    """`completed` of each job by its id, in one query."""
    done = work.progress_each(session, [job.id for job in jobs if job.status not in FINISHED])
    return {
        job.id: job.completed if job.status in FINISHED else min(done.get(job.id, 0), job.total)
        for job in jobs
    }


def completed(session: Session, job: Job) -> int:
    """Progress in the unit of the job's type, counted over the job's work while there is any."""
    return job.completed if job.status in FINISHED else min(work.progress(session, job.id), job.total)


def start(session: Session, job: Job, attempt: int) -> bool:
    """Notes that a worker came for the job; False when the job no longer wants one."""
    job.attempt = max(job.attempt, attempt)
    if job.status == "queued":
        job.status, job.started_at = "running", utcnow()
        events.append(session, job.id, "job.started", {"status": "running"})
    return job.status == "running"


def set_plan(job: Job, plan: dict[str, Any], total: int) -> None:
    """Keeps what every block must agree on: chunk size, block size, how much there is to do."""
    job.plan, job.total = plan, total


def stage_done(session: Session, blobs: BlobStore, job: Job, stage: str) -> None:
    """Queues what waited for `stage` and reports progress; ends a job whose last running unit this was."""
    if job.status == "cancelling":
        settle_cancelled(session, blobs, job)
        return
    work.release(session, job.id, stage)
    events.append(session, job.id, "job.progress", progress(session, job))


def progress(session: Session, job: Job, done: int | None = None) -> dict[str, Any]:
    """How far the job is; `done` spares the query where it is known."""
    done = completed(session, job) if done is None else done
    return {
        "completed": done,
        "total": job.total,
        "unit": TYPES[job.type].unit,
        "message": _message(job),
    }


def succeed(session: Session, blobs: BlobStore, job: Job, result: dict[str, Any]) -> None:
    """The end of the reduction: the scores are written in this same transaction."""
    if job.status != "running":
        raise work.LeaseLostError(job.id)
    job.completed, job.result = job.total, result
    _end(session, blobs, job, "succeeded", {"status": "succeeded", "result": result})


def fail(session: Session, blobs: BlobStore, job: Job, error: dict[str, Any]) -> None:
    """Ends the job with a problem that says whose fault it is (`error["fault"]`: user or service)."""
    if job.status in FINISHED:
        return
    if job.status == "cancelling":
        settle_cancelled(session, blobs, job, force=True)
        return
    job.completed, job.error = completed(session, job), error
    _end(session, blobs, job, "failed", {"status": "failed", "error": error})


def cancel(session: Session, blobs: BlobStore, job: Job) -> bool:
    """Stops the job between blocks; False when it was cancelled already.

    Raises:
        JobStateError: the job has succeeded or failed.
    """
    if job.status in ("succeeded", "failed"):
        raise JobStateError(job.status)
    if job.status in ("cancelled", "cancelling"):
        return False
    job.completed = completed(session, job)
    job.status = "cancelling"
    blobs.forget(session, *work.drop(session, job.id, but_running=True))
    settle_cancelled(session, blobs, job)
    return True


def settle_cancelled(session: Session, blobs: BlobStore, job: Job, *, force: bool = False) -> None:
    """cancelling → cancelled, once nothing of it runs any more."""
    if job.status == "cancelling" and (force or not work.running(session, job.id)):
        _end(session, blobs, job, "cancelled", {"status": "cancelled"})


def unit_stopped(session: Session, blobs: BlobStore, job: Job, unit: Work) -> None:
    """A unit of a job that is being cancelled let go: forget it, and end the job if it was the last."""
    session.delete(unit)
    session.flush()
    settle_cancelled(session, blobs, job)


def delete(session: Session, blobs: BlobStore, job: Job) -> None:
    """Removes a finished job with its scores, their exports, selections and decisions, and its events.

    Raises:
        JobStateError: the job is not finished.
    """
    if job.status not in FINISHED:
        raise JobStateError(job.status)
    blobs.forget(session, *work.drop(session, job.id))
    exports.drop_of(session, blobs, job_id=job.id)
    selections.drop_of(session, blobs, job.id)
    decisions.drop(session, job.id)
    scores.drop(session, job.id)
    columns.drop(session, blobs, job.id)
    evaluations.drop(session, blobs, job.id)
    events.drop(session, job.id)
    session.delete(job)
    blobs.forget(session, job.influences_blob, job.ranked_blob)


def _end(session: Session, blobs: BlobStore, job: Job, status: str, data: dict[str, Any]) -> None:
    job.status, job.finished_at = status, utcnow()
    events.append(session, job.id, f"job.{status}", data)
    told = {"id": job.id, "status": status, "type": job.type}
    webhooks.emit(session, job.project_id, f"job.{status}", told)
    blobs.forget(session, *work.drop(session, job.id))
    training.drop(session, blobs, job.id)
    if status != "succeeded":
        scores.drop(session, job.id)  # what was written ahead


def _message(job: Job) -> str:
    if job.status == "running":
        return TYPES[job.type].doing if job.total else "planning"
    return {"queued": "waiting for a worker", "cancelling": "stopping after what is in hand"}.get(
        job.status, job.status
    )


def seconds_running(job: Job) -> float:
    """Seconds since a worker came for the job."""
    return ((job.finished_at or utcnow()) - job.started_at).total_seconds() if job.started_at else 0.0
