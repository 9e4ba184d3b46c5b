"""Files that resources are made of, whether they came with the request or in parts before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.api.multipart import StagedFile
from app.api.problems import ApiProblem
from app.api.uploads.resource import found_upload
from app.store.blobs import BlobStore


class Given(NamedTuple):
    """A file that the store keeps; its blob's name is its SHA-256."""

    blob: str
    filename: str
    bytes: int


Source = Callable[[Session], Given]
"""Has the store keep a file: to be called once nothing else can be refused."""


def sent(blobs: BlobStore, file: StagedFile) -> Source:
    """A file that came with the request."""
    return lambda session: Given(blobs.keep(session, file.path, file.sha256), file.filename, file.bytes)


def taken_over(session: Session, project_id: str, upload_id: str, pointer: str) -> Given:
    """The file of a complete upload, which stays until the end of the transaction; else 404, or 409
    `upload_incomplete`.
    """
    upload = found_upload(session, project_id, upload_id, pointer, lock=True)
    if upload.blob is None:
        detail = f"Not all of {upload.id} is there: send its missing parts, then POST to its /complete."
        raise ApiProblem(409, "upload_incomplete", detail, pointer=pointer)
    return Given(upload.blob, upload.filename, upload.bytes)


def there(given: Given) -> Source:
    """A file that the store keeps already."""
    return lambda session: given
