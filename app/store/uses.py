"""Who uses what was sent: the jobs over data sets and trajectories, and the bytes that they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.store import jobs, pages
from app.store.tables import Checkpoint, Dataset, Job, JobTrajectory, Trajectory


class Checkpoints(NamedTuple):
    """How many checkpoints a trajectory has, how many of them were refused or are not read yet, and their
    bytes as sent."""

    total: int
    invalid: int
    validating: int
    bytes: int


class Sent(NamedTuple):
    """What a project sent: how much of it there is, and its bytes as sent."""

    datasets: int
    dataset_bytes: int
    trajectories: int
    checkpoint_bytes: int


def of_datasets(session: Session, ids: Sequence[str]) -> dict[str, int]:
    """How many jobs name each of these data sets, as training or as query set."""
    found = dict.fromkeys(ids, 0)
    query = select(Job.train_dataset_id, Job.query_dataset_id, func.count()).where(
        or_(Job.train_dataset_id.in_(ids), Job.query_dataset_id.in_(ids))
    )
    for train, other, count in session.execute(query.group_by(Job.train_dataset_id, Job.query_dataset_id)):
        for one in {train, other}:
            if one in found:
                found[one] += count
    return found


def of_trajectories(session: Session, ids: Sequence[str]) -> dict[str, int]:
    """How many jobs are over each of these trajectories."""
    query = select(JobTrajectory.trajectory_id, func.count()).where(JobTrajectory.trajectory_id.in_(ids))
    counted = session.execute(query.group_by(JobTrajectory.trajectory_id))
    return dict.fromkeys(ids, 0) | dict(counted.all())


def checkpoints(session: Session, ids: Sequence[str]) -> dict[str, Checkpoints]:
    """The checkpoints of each of these trajectories."""
    query = select(
        Checkpoint.trajectory_id,
        func.count(),
        func.count().filter(Checkpoint.status == "invalid"),
        func.count().filter(Checkpoint.status == "validating"),
        func.coalesce(func.sum(Checkpoint.bytes), 0),
    ).where(Checkpoint.trajectory_id.in_(ids))
    counted = session.execute(query.group_by(Checkpoint.trajectory_id))
    none = Checkpoints(0, 0, 0, 0)
    return dict.fromkeys(ids, none) | {one: Checkpoints(*map(int, rest)) for one, *rest in counted}


def jobs_with(
    session: Session,
    project_id: str,
    limit: int,
    *,
    dataset_id: str | None = None,
    trajectory_id: str | None = None,
) -> Sequence[Job]:
    """The newest jobs that name this data set or trajectory."""
    named = jobs.naming(dataset_id=dataset_id, trajectory_id=trajectory_id)
    return pages.newest(session, Job, project_id, limit, named)


def sent(session: Session, project_id: str) -> Sent:
    """What the project sent, in all."""
    sets = select(func.count(), func.coalesce(func.sum(Dataset.bytes), 0))
    runs = select(func.count()).select_from(Trajectory).where(Trajectory.project_id == project_id)
    states = select(func.coalesce(func.sum(Checkpoint.bytes), 0))
    states = states.join(Trajectory, Trajectory.id == Checkpoint.trajectory_id)
    count, size = session.execute(sets.where(Dataset.project_id == project_id)).one()
    weights = session.execute(states.where(Trajectory.project_id == project_id)).scalar_one()
    return Sent(count, int(size), session.execute(runs).scalar_one(), int(weights))
