"""What a project takes of the service: bytes kept, jobs queued, jobs running."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, func, select, union
from sqlalchemy.orm import Session

from app.store import datasets
from app.store.tables import (
    BatchOrder,
    Blob,
    Checkpoint,
    Dataset,
    Export,
    Job,
    Selection,
    SelectionFile,
    Trajectory,
    TrajectoryFile,
    Upload,
)

RUNNING = ("running", "cancelling")


def stored(session: Session, project_id: str) -> int:
    """Bytes of the files that the project's resources name, each content once, and those that its uploads
    under way will have.
    """
    named = union(*_blobs(project_id)).subquery()
    query = select(func.coalesce(func.sum(Blob.bytes), 0)).where(Blob.sha256.in_(select(named.c[0])))
    coming = select(func.coalesce(func.sum(Upload.bytes), 0)).where(
        Upload.project_id == project_id, Upload.status == "receiving"
    )
    return int(session.execute(query).scalar_one()) + int(session.execute(coming).scalar_one())


def jobs_queued(session: Session, project_id: str) -> int:
    return _count(session, Job.project_id == project_id, Job.status == "queued")


def jobs_running(session: Session, project_id: str) -> int:
    return _count(session, Job.project_id == project_id, Job.status.in_(RUNNING))


def _count(session: Session, *where: ColumnElement[bool]) -> int:
    return session.execute(select(func.count()).select_from(Job).where(*where)).scalar_one()


def _blobs(project_id: str) -> list[Select[tuple[str | None]]]:
    mine = [getattr(Dataset, name) for name in datasets.BLOBS]
    found = [select(column).where(Dataset.project_id == project_id) for column in mine]
    found += [select(one.blob).where(one.project_id == project_id) for one in (Upload, Export)]
    runs = select(Trajectory.id).where(Trajectory.project_id == project_id)
    for part in (Checkpoint, BatchOrder, TrajectoryFile):
        found.append(select(part.blob).where(part.trajectory_id.in_(runs)))
    found.append(select(Checkpoint.optimizer_blob).where(Checkpoint.trajectory_id.in_(runs)))
    chosen = select(Selection.id).where(Selection.project_id == project_id)
    found.append(select(SelectionFile.blob).where(SelectionFile.selection_id.in_(chosen)))
    return found
