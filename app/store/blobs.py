"""Content-addressed bytes on a local or shared disk, named by rows that foreign keys protect.

A file is written under a fresh name, then named by a row in the transaction that needs it. Bytes go only
when no row names them: the row's deletion is tried first, and the database refuses while it is in use.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import uuid_utils
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.store.db import after_commit, inserting
from app.store.tables import Blob, Upload

CHUNK = 1024 * 1024


class BlobStore:
    """Blobs below one folder, which API and workers must share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staging, self.incoming = folder / "staging", folder / "incoming"
        for inside in (self.staging, self.incoming):
            inside.mkdir(parents=True, exist_ok=True)

    def path(self, session: Session, sha256: str) -> Path:
        """Where the bytes lie. Raises FileNotFoundError when no such blob is kept."""
        location = session.scalar(select(Blob.location).where(Blob.sha256 == sha256))
        if location is None:
            raise FileNotFoundError(f"no blob {sha256}")
        return self.folder / location

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A fresh path to write to; whatever is left there at the end is removed."""
        path = self.staging / str(uuid_utils.uuid7())
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, session: Session, staged: Path, sha256: str | None = None) -> str:
        """Names the staged file by its digest, which is returned; the same content is not kept twice."""
        sha256 = sha256 or digest(staged)
        if session.scalar(select(Blob.sha256).where(Blob.sha256 == sha256).with_for_update(read=True)):
            return sha256
        location = f"{sha256[:2]}/{sha256}-{uuid_utils.uuid7()}"
        target = self.folder / location
        target.parent.mkdir(exist_ok=True)
        size = staged.stat().st_size
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        os.utime(staged)  # however long it took to come: `collect` must not take it for a leftover
        staged.rename(target)
        row = inserting(session)(Blob).values(sha256=sha256, bytes=size, location=location)
        session.execute(row.on_conflict_do_nothing())
        kept = session.scalar(select(Blob.location).where(Blob.sha256 == sha256).with_for_update(read=True))
        if kept != location:  # somebody kept the same content first
            target.unlink()
        return sha256

    def forget(self, session: Session, *digests: str | None) -> None:
        """Deletes those of the blobs that nothing names any more; their files go after the commit."""
        session.flush()
        for sha256 in filter(None, digests):
            location = session.scalar(select(Blob.location).where(Blob.sha256 == sha256))
            if location is None:
                continue
            try:
                with session.begin_nested():
                    session.execute(delete(Blob).where(Blob.sha256 == sha256))
            except IntegrityError:
                continue
            after_commit(session, partial((self.folder / location).unlink, missing_ok=True))

    def collect(self, session: Session, older_than: float = 24 * 3600) -> int:
        """Removes files that no row names and that are older than `older_than` seconds; returns how many."""
        old = [path for path in self.folder.glob("*/*") if _age(path) > older_than]
        kept = set(session.scalars(select(Blob.location)))
        coming = session.scalars(select(Upload.id).where(Upload.blob.is_(None)))
        kept |= {f"{self.incoming.name}/{upload_id}" for upload_id in coming}
        orphans = [path for path in old if str(path.relative_to(self.folder)) not in kept]
        for path in orphans:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(orphans)

    def usage(self, session: Session) -> tuple[int, int, int]:
        """(how many blobs there are, their bytes, bytes that are free where they lie)."""
        count, size = session.execute(select(func.count(), func.sum(Blob.bytes))).one()
        return count, int(size or 0), self.free()

    def free(self) -> int:
        """Bytes that are free where blobs lie."""
        return shutil.disk_usage(self.folder).free

    def check(self) -> None:
        """Raises unless bytes can be written and read back."""
        with self.stage() as path:
            path.write_bytes(b"ok")
            if path.read_bytes() != b"ok":
                raise OSError(f"{self.folder} does not give back what is written to it")


def _age(path: Path) -> float:
    """Seconds since the path was written to; 0 when it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts(file: BinaryIO) -> Iterator[bytes]:
    """The file in pieces, so that no blob is held in memory whole."""
    while piece := file.read(CHUNK):
        yield piece
