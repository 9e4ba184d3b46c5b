"""Exports, files of a job's scores or of a selection: queued → running → succeeded | failed; then expired.

Whoever makes one holds the lock of its job, so that a job is never deleted under an export in the making.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import webhooks, work
from app.store.blobs import BlobStore
from app.store.db import new_id, utcnow
from app.store.tables import Export, Job
from app.store.work import Lease

FINISHED = ("succeeded", "failed", "expired")


def create(session: Session, job: Job, rows: int, **values: Any) -> Export:
    """An export of the job's scores, or of a selection of the job's that `values` name, to be made by a
    worker. The caller holds the job's lock.
    """
    export = Export(
        id=new_id("exp"), project_id=job.project_id, job_id=job.id, status="queued", rows=rows, **values
    )
    session.add(export)
    session.flush()
    work.add(session, "export", export.id, job.project_id, total=rows)
    return export


def get(session: Session, project_id: str, export_id: str) -> Export | None:
    return session.scalar(select(Export).where(Export.id == export_id, Export.project_id == project_id))


def status(export: Export) -> str:
    """As it is by the clock: the bytes may go some minutes after the export has expired."""
    over = export.expires_at is not None and export.expires_at <= utcnow()
    return "expired" if over else export.status


def completed(session: Session, export: Export) -> int:
    """Rows that are written."""
    return work.progress(session, export.id) if export.status == "running" else export.rows * _done(export)


def _done(export: Export) -> bool:
    return export.status in ("succeeded", "expired")


def start(session: Session, lease: Lease, export_id: str, lease_seconds: float) -> Export:
    """Notes that a worker is at it. Raises LeaseLostError when it is somebody else's, or deleted."""
    work.renew(session, lease, lease_seconds, 0)
    export = session.get(Export, export_id, with_for_update=True)
    if export is None:
        raise work.LeaseLostError(export_id)
    export.status = "running"
    return export


def finish(
    session: Session,
    blobs: BlobStore,
    lease: Lease,
    export_id: str,
    staged: Path,
    sha256: str,
    hours: float,
) -> None:
    """Keeps the file, which is there for so many hours. Raises LeaseLostError as `start` does."""
    size, digest = staged.stat().st_size, blobs.keep(session, staged, sha256)
    work.finish(session, lease)
    export = session.get(Export, export_id, with_for_update=True)
    if export is None:
        raise work.LeaseLostError(export_id)
    now = utcnow()
    export.status, export.blob, export.bytes = "succeeded", digest, size
    export.finished_at, export.expires_at = now, now + timedelta(hours=hours)
    _tell(session, export)
    work.drop(session, export_id)


def failed(session: Session, export: Export, error: dict[str, Any]) -> None:
    """No worker could make it, and says why."""
    export.status, export.error, export.finished_at = "failed", error, utcnow()
    _tell(session, export)
    work.drop(session, export.id)


def _tell(session: Session, export: Export) -> None:
    told = {"id": export.id, "status": export.status, "format": export.format, "job_id": export.job_id}
    if export.selection_id is not None:
        told["selection_id"] = export.selection_id
    webhooks.emit(session, export.project_id, f"export.{export.status}", told, ordered_by=export.job_id)


def delete(session: Session, blobs: BlobStore, export: Export) -> None:
    """Removes the export and its bytes; a worker that is at it finds its lease lost."""
    work.drop(session, export.id)
    # a worker may just have kept its file, or somebody else have deleted it
    found = session.get(Export, export.id, with_for_update=True, populate_existing=True)
    if found is not None:
        session.delete(found)
        blobs.forget(session, found.blob)


def drop_of(
    session: Session, blobs: BlobStore, *, job_id: str | None = None, selection_id: str | None = None
) -> None:
    """Deletes the exports of a job, those of its selections among them, or of a selection. The caller holds
    its lock.
    """
    of = Export.job_id == job_id if job_id is not None else Export.selection_id == selection_id
    for export in session.scalars(select(Export).where(of)).all():
        delete(session, blobs, export)
    session.flush()


def expire(session: Session, blobs: BlobStore) -> None:
    """Lets go of the bytes of exports whose time is over."""
    query = select(Export).where(Export.expires_at <= utcnow(), Export.status == "succeeded")
    for export in session.scalars(query.with_for_update(skip_locked=True)).all():
        export.status, blob, export.blob = "expired", export.blob, None
        blobs.forget(session, blob)
