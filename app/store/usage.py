"""What a project takes of the service: bytes kept, jobs queued, jobs running.

Whoever counts in order to add to it says so first (`counting`): of two transactions the second then sees what
the first has added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import ColumnElement, Select, func, select, union
from sqlalchemy.orm import Session

from app.store import datasets, work
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
    Work,
)

Counted = Literal["bytes", "jobs queued", "jobs running", "lasting admin keys"]
RUNNING = ("running", "cancelling")


def counting(session: Session, project_id: str, what: Counted) -> None:
    """Waits for whoever else counts this of the project, and has others wait until the transaction ends.

    On SQLite there is one writer at a time anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        number = func.hashtextextended(f"{what} of {project_id}", 0)
        session.execute(select(func.pg_advisory_xact_lock(number)))


def stored(session: Session, project_id: str, *, without: str | None = None) -> int:
    """Bytes of the files that the project's resources name, each content once, and those that its uploads
    under way, and files on their way from a `uri`, will have.

    Args:
        without: the id of what is about to have its files: what it is made of, as it came or as it was
            announced, is not to count.
    """
    named = union(*_blobs(project_id, without)).subquery()
    query = select(func.coalesce(func.sum(Blob.bytes), 0)).where(Blob.sha256.in_(select(named.c[0])))
    coming = select(func.coalesce(func.sum(Upload.bytes), 0)).where(
        Upload.project_id == project_id, Upload.status == "receiving"
    )
    fetched = select(func.coalesce(func.sum(Work.total), 0)).where(
        Work.project_id == project_id,
        Work.queue == work.QUEUES[work.FETCHED],
        Work.status.in_(work.UNFINISHED),
        Work.subject != (without or ""),
    )
    return sum(int(session.execute(one).scalar_one()) for one in (query, coming, fetched))


def unknown(session: Session, project_id: str, files: Mapping[str, int]) -> int:
    """Bytes of those of the files, each by its digest, that the project does not have yet."""
    named = union(*_blobs(project_id)).subquery()
    have = set(session.scalars(select(named.c[0]).where(named.c[0].in_(files))))
    return sum(size for sha256, size in files.items() if sha256 not in have)


def jobs_queued(session: Session, project_id: str) -> int:
    return _count(session, Job.project_id == project_id, Job.status == "queued")


def jobs_running(session: Session, project_id: str) -> int:
    return _count(session, Job.project_id == project_id, Job.status.in_(RUNNING))


def _count(session: Session, *where: ColumnElement[bool]) -> int:
    return session.execute(select(func.count()).select_from(Job).where(*where)).scalar_one()


def _blobs(project_id: str, without: str | None = None) -> list[Select[tuple[str | None]]]:
    kept = [getattr(Dataset, name) for name in datasets.BLOBS if name != "source_blob"]
    found = [select(column).where(Dataset.project_id == project_id) for column in kept]
    sources = select(Dataset.source_blob).where(Dataset.project_id == project_id)
    found.append(sources if without is None else sources.where(Dataset.id != without))
    found += [select(one.blob).where(one.project_id == project_id) for one in (Upload, Export)]
    runs = select(Trajectory.id).where(Trajectory.project_id == project_id)
    for part in (Checkpoint, BatchOrder, TrajectoryFile):
        found.append(select(part.blob).where(part.trajectory_id.in_(runs)))
    found.append(select(Checkpoint.optimizer_blob).where(Checkpoint.trajectory_id.in_(runs)))
    chosen = select(Selection.id).where(Selection.project_id == project_id)
    found.append(select(SelectionFile.blob).where(SelectionFile.selection_id.in_(chosen)))
    return found
