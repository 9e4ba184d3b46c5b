"""Files that resources are made of: sent with the request, in parts before it, or yet to be fetched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, StringConstraints
from sqlalchemy.orm import Session

from app import uris
from app.api.multipart import StagedFile
from app.api.problems import ApiProblem
from app.api.resources import NO_NUL
from app.api.uploads.resource import found_upload
from app.catalog.base import refusal
from app.settings import Settings
from app.store.blobs import BlobStore
from app.store.fetching import Wanted

MOST_NAME = 255
Uri = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=NO_NUL)]


class Given(NamedTuple):
    """A file that the store keeps; its blob's name is its SHA-256, and empty while it is yet to be fetched.
    `pointer` is the field that named it."""

    blob: str
    filename: str
    bytes: int
    pointer: str = ""
    wanted: Wanted | None = None

    @property
    def uri(self) -> str | None:
        return self.wanted["uri"] if self.wanted else None

    def told(self) -> dict[str, Any]:
        """What is known of it, as it is answered."""
        told = {"filename": self.filename, "bytes": self.bytes, "sha256": self.blob}
        return told | {"uri": self.uri, "bytes": None, "sha256": None} if self.wanted else told


Source = Callable[[Session], Given]
"""Has the store keep a file: to be called once nothing else can be refused."""


def sent(blobs: BlobStore, file: StagedFile) -> Source:
    """A file that came with the request."""
    return lambda session: Given(blobs.keep(session, file.path, file.sha256), file.filename, file.bytes)


def check_sources(body: BaseModel, other: str) -> None:
    """Raises, in a validator, unless a body names its file once, and the `other` one once at most; that by a
    `uri` only where the file has one too.
    """
    first, second = ([getattr(body, f"{role}{by}") for by in ("upload_id", "uri")] for role in ("", other))
    if (first[0] is None) == (first[1] is None):
        raise refusal("give exactly one of upload_id and uri.")
    if None not in second:
        raise refusal(f"give one of {other}upload_id and {other}uri, not both.")
    if second[1] is not None and first[1] is None:
        raise refusal(f"{other}uri goes with uri: upload both files, or neither.")


def named(
    session: Session, settings: Settings, project_id: str, body: BaseModel, role: str, most: int
) -> Given | None:
    """The file that a body names by its `{role}upload_id` or `{role}uri`; None where by neither.

    Args:
        most: bytes that it may have if it is yet to be fetched.

    Raises:
        ApiProblem: as `taken_over`; 422 `uri_not_allowed`.
    """
    if (upload_id := getattr(body, f"{role}upload_id")) is not None:
        return taken_over(session, project_id, upload_id, f"/{role}upload_id")
    if (uri := getattr(body, pointer := f"{role}uri")) is None:
        return None
    try:
        found = uris.named(uri, settings.uri_prefixes_of(project_id))
    except uris.UriRefusedError as refused:
        raise ApiProblem(422, "uri_not_allowed", str(refused), pointer=f"/{pointer}") from refused
    return Given("", found.filename[:MOST_NAME], 0, f"/{pointer}", Wanted(uri=uri, most=most))


def wanted_of(**files: Given | None) -> dict[str, Wanted]:
    """Those of the files that are to be fetched, by what they are."""
    return {role: file.wanted for role, file in files.items() if file and file.wanted}


def taken_over(session: Session, project_id: str, upload_id: str, pointer: str) -> Given:
    """The file of a complete upload, which stays until the end of the transaction; else 404, or 409
    `upload_incomplete`.
    """
    upload = found_upload(session, project_id, upload_id, pointer, lock=True)
    if upload.blob is None:
        detail = f"Not all of {upload.id} is there: send its missing parts, then POST to its /complete."
        raise ApiProblem(409, "upload_incomplete", detail, pointer=pointer)
    return Given(upload.blob, upload.filename, upload.bytes, pointer)


def there(given: Given) -> Source:
    """A file that the store keeps already."""
    return lambda session: given
