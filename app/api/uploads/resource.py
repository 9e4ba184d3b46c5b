"""Uploads as they are asked for and answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from app.api.problems import not_found
from app.api.resources import NO_NUL, Body, Metadata, Name, Notes, named
from app.settings import GIB, MIB
from app.store import uploads
from app.store.tables import Upload

Status = Literal["receiving", "complete"]
UPLOAD = "up_0197f4e9-2b3c-7c5e-9c4f-3f1f2d1f6a52"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
UploadId = Annotated[str, Path(pattern=NO_NUL, examples=[UPLOAD])]
Filename = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00/\\]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
LEAST_PART, USUAL_PART, MOST_PART = 64 * 1024, 64 * MIB, GIB


class UploadIn(Body):
    """A file that is to be sent in parts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"filename": "train.parquet", "bytes": 5368709120, "sha256": DIGEST}]}
    )

    filename: Filename
    bytes: int = Field(ge=1, description="Of the whole file.")
    sha256: Sha256 | None = Field(None, description="Of the whole file; checked when it is complete.")
    part_bytes: int | None = Field(
        None,
        ge=LEAST_PART,
        le=MOST_PART,
        description=f"Of each part but the last; {USUAL_PART // MIB} MiB, or more for a very large file.",
    )
    name: Name = ""
    notes: Notes = ""
    metadata: Metadata = Field({})

    def parted(self) -> int:
        """Bytes of a part, so that there are not too many."""
        fewest = -(-self.bytes // uploads.MOST_PARTS)
        return max(self.part_bytes or USUAL_PART, -(-fewest // MIB) * MIB if fewest > LEAST_PART else 0)


class PartOut(BaseModel):
    """A part that is there."""

    number: int
    bytes: int
    sha256: str


class UploadOut(BaseModel):
    """A file on its way. Part `number` is the bytes from (number - 1)·`part_bytes` on, and as many; the last
    one is shorter.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": UPLOAD,
                    "name": "",
                    "notes": "",
                    "metadata": {},
                    "created_at": "2026-11-25T03:00:00Z",
                    "filename": "train.parquet",
                    "bytes": 100000000,
                    "part_bytes": 67108864,
                    "num_parts": 2,
                    "status": "receiving",
                    "received_bytes": 67108864,
                    "parts": [{"number": 1, "bytes": 67108864, "sha256": DIGEST}],
                    "sha256": None,
                    "expires_at": "2026-11-28T03:00:10Z",
                }
            ]
        }
    )

    id: str
    name: str
    notes: str
    metadata: dict[str, str]
    created_at: datetime
    filename: str
    bytes: int
    part_bytes: int
    num_parts: int
    status: Status
    received_bytes: int
    parts: list[PartOut] = Field(description="Those that are there, by number; empty in lists.")
    sha256: str | None = Field(description="As announced; once it is complete, as it is.")
    expires_at: datetime = Field(description="When it goes, unless a part comes in before.")


def shown(session: Session, upload: Upload, *, whole: bool = True) -> UploadOut:
    """The upload as clients see it; `whole`: with its parts, which may be many."""
    there = uploads.parts(session, upload.id)
    plain = ("filename", "bytes", "part_bytes", "status", "sha256", "expires_at")
    found = [PartOut(number=one.number, bytes=one.bytes, sha256=one.sha256) for one in there]
    return UploadOut(
        **named(upload),
        **{name: getattr(upload, name) for name in plain},
        num_parts=uploads.count(upload),
        received_bytes=sum(one.bytes for one in there),
        parts=found if whole else [],
    )


def found_upload(
    session: Session, project_id: str, upload_id: str, pointer: str | None = None, *, lock: bool = False
) -> Upload:
    """The upload, or 404."""
    upload = uploads.get(session, project_id, upload_id, lock=lock)
    if upload is None:
        raise not_found("upload", upload_id, pointer)
    return upload
