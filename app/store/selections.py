"""Selections and their states. No other file changes a selection's status.

    queued ──start──▶ running ──succeed──▶ succeeded
                         └────── fail ───▶ failed

Whoever changes a selection's work holds the selection's row lock first. One that is deleted while a worker is
at it takes its work along: the worker finds its lease lost, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import exports, webhooks, work
from app.store.blobs import BlobStore
from app.store.db import new_id, utcnow
from app.store.tables import Selection, SelectionFile

FINISHED = ("succeeded", "failed")
ROWS, CHECKPOINT = "rows", "checkpoint"  # roles of files
FOLLOWING = "following"  # the stage of what follows the choice


def create(session: Session, **values: Any) -> Selection:
    """A queued selection, and the unit of work that chooses its samples."""
    selection = Selection(id=new_id("sel"), status="queued", **values)
    session.add(selection)
    session.flush()
    work.add(session, "select", selection.id, selection.project_id)
    return selection


def get(session: Session, project_id: str, selection_id: str) -> Selection | None:
    return session.scalar(
        select(Selection).where(Selection.id == selection_id, Selection.project_id == project_id)
    )


def locked(session: Session, selection_id: str, *, patient: bool = True) -> Selection | None:
    """The selection with its row locked until the end of the transaction.

    Impatient, it is None where somebody else holds the lock.
    """
    query = select(Selection).where(Selection.id == selection_id).with_for_update(skip_locked=not patient)
    return session.scalar(query.execution_options(populate_existing=True))


def start(selection: Selection) -> None:
    """Notes that a worker came for it."""
    if selection.status == "queued":
        selection.status, selection.started_at = "running", utcnow()


def progress(session: Session, selection: Selection) -> tuple[int, int]:
    """(how much is done, of how much)."""
    if selection.status == "succeeded":
        return selection.total, selection.total
    return min(work.progress(session, selection.id), selection.total), selection.total


def keep(session: Session, blobs: BlobStore, selection: Selection, role: str, staged: Path) -> None:
    """Keeps a staged file of the selection."""
    blob = blobs.keep(session, staged)
    session.add(SelectionFile(selection_id=selection.id, role=role, blob=blob))


def go_on(session: Session, selection: Selection, units: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Queues what follows the choice: each (kind, payload) at once, and when all are done `settle`."""
    project_id = selection.project_id
    for kind, payload in units:
        work.add(session, kind, selection.id, project_id, stage=FOLLOWING, payload=payload, total=1)
    work.add(session, "settle", selection.id, project_id, waits_for=FOLLOWING)
    selection.total = len(units)


def succeed(session: Session, blobs: BlobStore, selection: Selection, result: dict[str, Any]) -> None:
    """Ends the selection with what was found."""
    selection.result = result
    _end(session, blobs, selection, "succeeded")


def fail(session: Session, blobs: BlobStore, selection: Selection, error: dict[str, Any]) -> None:
    """Ends the selection with a problem that says whose fault it is."""
    if selection.status not in FINISHED:
        selection.error = error
        _end(session, blobs, selection, "failed")


def blob(session: Session, selection_id: str, role: str) -> str | None:
    """The digest of the file of this role, if there is one."""
    found = session.get(SelectionFile, (selection_id, role))
    return found.blob if found is not None else None


def path(session: Session, blobs: BlobStore, selection_id: str, role: str) -> tuple[Path, str] | None:
    """(where the file of this role lies, its digest); None where there is none."""
    digest = blob(session, selection_id, role)
    return (blobs.path(session, digest), digest) if digest is not None else None


def delete(session: Session, blobs: BlobStore, selection: Selection) -> None:
    """Removes the selection, its files, its exports and what is still to be done for it."""
    exports.drop_of(session, blobs, selection_id=selection.id)
    blobs.forget(session, *work.drop(session, selection.id))
    query = select(SelectionFile).where(SelectionFile.selection_id == selection.id)
    files = session.scalars(query).all()
    for file in files:
        session.delete(file)
    session.flush()
    session.delete(selection)
    blobs.forget(session, *(file.blob for file in files))


def drop_of(session: Session, blobs: BlobStore, job_id: str) -> None:
    """Removes all selections of a job."""
    query = select(Selection).where(Selection.job_id == job_id).order_by(Selection.id).with_for_update()
    for selection in session.scalars(query).all():
        delete(session, blobs, selection)


def _end(session: Session, blobs: BlobStore, selection: Selection, status: str) -> None:
    selection.status, selection.finished_at = status, utcnow()
    told = {"id": selection.id, "status": status, "type": selection.type, "job_id": selection.job_id}
    webhooks.emit(session, selection.project_id, f"selection.{status}", told, ordered_by=selection.job_id)
    blobs.forget(session, *work.drop(session, selection.id))
