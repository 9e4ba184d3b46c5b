"""Files that a worker fetches from where a `uri` says, before what is made of them is validated.

One unit of work for each data set or checkpoint, which its validation waits for. Its `total` is how many
bytes it will bring: they count to the project's, as those of an upload under way do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

from sqlalchemy.orm import Session

from app.store import work
from app.store.blobs import BlobStore
from app.store.tables import Checkpoint, Dataset
from app.store.work import Lease

FILE, TOKENIZER, OPTIMIZER = "file", "tokenizer", "optimizer"  # what a file is to what is made of it


class Wanted(TypedDict):
    """A file to be fetched, of so many bytes at most."""

    uri: str
    most: int


class Came(NamedTuple):
    """A file that was fetched, staged."""

    path: Path
    bytes: int
    sha256: str


def queue(
    session: Session,
    subject: str,
    project_id: str,
    wanted: Mapping[str, Wanted],
    waits_for: str | None = None,
) -> str | None:
    """Has these files fetched for `subject`, if there are any; returns what its validation is to wait for."""
    if not wanted:
        return None
    work.add(session, work.FETCHED, subject, project_id, waits_for=waits_for, payload=dict(wanted))
    return work.FETCHED


def finish(session: Session, blobs: BlobStore, lease: Lease, subject: str, came: Mapping[str, Came]) -> None:
    """The files are there: they are kept, and what is made of them is validated next."""
    work.finish(session, lease)
    kept = {role: blobs.keep(session, file.path, file.sha256) for role, file in came.items()}
    row: Dataset | Checkpoint
    if subject.startswith("ds_"):
        row = session.get_one(Dataset, subject)
        row.source_blob = kept[FILE]
        row.tokenizer_blob = kept.get(TOKENIZER, row.tokenizer_blob)
    else:
        row = session.get_one(Checkpoint, subject)
        row.blob = kept[FILE]
        if OPTIMIZER in came:
            told = {"bytes": came[OPTIMIZER].bytes, "sha256": kept[OPTIMIZER]}
            row.optimizer_blob, row.optimizer_file = kept[OPTIMIZER], (row.optimizer_file or {}) | told
    row.bytes, row.sha256 = came[FILE].bytes, kept[FILE]
    work.release(session, subject, work.FETCHED)
