"""Files on their way, to the service and from it, as it tells of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from diffin.models import Json, Problem, Progress


@dataclass(frozen=True)
class Upload:
    """A file sent in parts; `status`: receiving → complete.

    `parts` are those that are there: {number, bytes, sha256} each.
    """

    id: str
    status: str
    filename: str
    bytes: int
    part_bytes: int
    num_parts: int
    received_bytes: int = 0
    parts: tuple[Json, ...] = ()
    sha256: str | None = None
    metadata: Json | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Export:
    """A file of a job's scores or of a selection.

    `status`: queued → running → succeeded | failed; expired in the end.
    """

    id: str
    status: str
    format: str
    order: str | None = None
    job_id: str | None = None
    selection_id: str | None = None
    name: str | None = None
    progress: Progress = field(default_factory=Progress)
    bytes: int | None = None
    sha256: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    error: Problem | None = None

    @property
    def finished(self) -> bool:
        return self.status in ("succeeded", "failed", "expired")
