"""What each retraining of a job that evaluates showed: a file that comes and goes with the job."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from app.store.blobs import BlobStore
from app.store.tables import Evaluation


def keep(session: Session, blobs: BlobStore, job_id: str, staged: Path) -> None:
    """Keeps the file; the caller ends the job in the same transaction."""
    session.add(Evaluation(job_id=job_id, blob=blobs.keep(session, staged)))


def path(session: Session, blobs: BlobStore, job_id: str) -> Path | None:
    """The job's file; None before its success."""
    found = session.get(Evaluation, job_id)
    return blobs.path(session, found.blob) if found is not None else None


def drop(session: Session, blobs: BlobStore, job_id: str) -> None:
    """Forgets the job's file, if it has any."""
    found = session.get(Evaluation, job_id)
    if found is not None:
        session.delete(found)
        session.flush()
        blobs.forget(session, found.blob)
