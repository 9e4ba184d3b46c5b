"""Files that come in parts: receiving → complete. A part is there once its row says so, with its digest.

The parts lie at their places in one file from the start, so that nothing is put together at the end. Which
bytes of it hold a part is told by the rows alone: what a killed process wrote is written again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import delete as delete_from
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.blobs import BlobStore
from app.store.db import after_commit, new_id, utcnow
from app.store.tables import Upload, UploadPart

MOST_PARTS = 10_000


class Span(NamedTuple):
    """The bytes [start, start + length) of the file."""

    start: int
    length: int


def create(session: Session, hours: float, **values: Any) -> Upload:
    upload = Upload(id=new_id("up"), status="receiving", expires_at=_until(hours), **values)
    session.add(upload)
    return upload


def get(session: Session, project_id: str, upload_id: str, *, lock: bool = False) -> Upload | None:
    query = select(Upload).where(Upload.id == upload_id, Upload.project_id == project_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalar(query)


def path(blobs: BlobStore, upload_id: str) -> Path:
    """Where the parts lie."""
    return blobs.incoming / upload_id


def count(upload: Upload) -> int:
    """How many parts the file has."""
    return -(-upload.bytes // upload.part_bytes)


def span(upload: Upload, number: int) -> Span | None:
    """Where part `number` lies, from 1 on; None where there is no such part."""
    if not 1 <= number <= count(upload):
        return None
    start = (number - 1) * upload.part_bytes
    return Span(start, min(upload.part_bytes, upload.bytes - start))


def parts(session: Session, upload_id: str) -> Sequence[UploadPart]:
    """The parts that are there, by number."""
    query = select(UploadPart).where(UploadPart.upload_id == upload_id).order_by(UploadPart.number)
    return session.scalars(query).all()


def there(session: Session, upload_id: str, number: int) -> bool:
    """Whether this part is there."""
    return session.get(UploadPart, (upload_id, number)) is not None


def missing(upload: Upload, found: Sequence[UploadPart]) -> list[int]:
    """The numbers of the parts that are not among those found."""
    known = {part.number for part in found}
    return [number for number in range(1, count(upload) + 1) if number not in known]


def forget_part(session: Session, upload_id: str, *numbers: int) -> None:
    """These parts are not there: they are about to be written again, or are not what they were."""
    where = UploadPart.upload_id == upload_id, UploadPart.number.in_(numbers)
    session.execute(delete_from(UploadPart).where(*where))


def record_part(session: Session, upload: Upload, number: int, size: int, sha256: str, hours: float) -> None:
    """The part is there. The caller holds the upload's lock, and that of the part's bytes."""
    forget_part(session, upload.id, number)
    session.add(UploadPart(upload_id=upload.id, number=number, bytes=size, sha256=sha256))
    upload.expires_at = _until(hours)


@contextmanager
def whole(blobs: BlobStore, upload_id: str, sha256: str) -> Iterator[Path]:
    """The file, whose digest this is, staged to be kept; its parts are still there whatever happens then."""
    with blobs.stage() as staged:
        os.link(path(blobs, upload_id), staged)
        with blobs.ahead(staged, known={staged: sha256}):
            yield staged


def complete(
    session: Session, blobs: BlobStore, upload: Upload, staged: Path, sha256: str, hours: float
) -> None:
    """All parts are there: the `whole` becomes a blob. The caller holds the upload's lock."""
    file = path(blobs, upload.id)
    upload.blob = blobs.keep(session, staged, sha256)
    upload.status, upload.sha256, upload.expires_at = "complete", sha256, _until(hours)
    session.flush()
    after_commit(session, lambda: file.unlink(missing_ok=True))


def delete(session: Session, blobs: BlobStore, upload: Upload) -> None:
    """Removes the upload and its bytes, unless a data set or something else names them too."""
    session.execute(delete_from(UploadPart).where(UploadPart.upload_id == upload.id))
    session.delete(upload)
    session.flush()
    blobs.forget(session, upload.blob)
    file = path(blobs, upload.id)
    after_commit(session, lambda: file.unlink(missing_ok=True))


def expire(session: Session, blobs: BlobStore) -> None:
    """Removes the uploads that nobody went on with, or used."""
    query = select(Upload).where(Upload.expires_at <= utcnow()).with_for_update(skip_locked=True)
    for upload in session.scalars(query).all():
        delete(session, blobs, upload)


def _until(hours: float) -> Any:
    return utcnow() + timedelta(hours=hours)
