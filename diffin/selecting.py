"""What the service answers about selections, typed as in `diffin.models`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from diffin.models import Json, Problem, Progress

FINISHED = frozenset({"succeeded", "failed"})


@dataclass(frozen=True)
class Selection:
    """Samples to clean, delete or keep; `status`: queued → running → succeeded | failed.

    `size` counts the samples acted on (of a coreset, those kept). `result` tells how many to keep, remove and
    relabel, and `predicted_change` of the query loss.
    """

    id: str
    type: str
    status: str
    job_id: str
    size: int | None = None
    num_samples: int | None = None
    name: str | None = None
    request: Json | None = None
    progress: Progress = field(default_factory=Progress)
    metadata: Json | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Problem | None = None
    result: Json | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


@dataclass(frozen=True)
class Decision:
    """What somebody decided about a sample: `action` is keep, remove or relabel (to `label`); `key_name` is
    that of the key he used.
    """

    sample_index: int
    action: str
    sample_id: str | None = None
    label: int | float | None = None
    label_name: str | None = None
    updated_at: datetime | None = None
    key_id: str | None = None
    key_name: str | None = None


@dataclass(frozen=True)
class Selected:
    """A sample of a selection: `action` is keep, remove or relabel, `suggested_label` what the model says
    (where it is another), with its probability as `confidence`.
    """

    sample_index: int
    action: str
    score: float
    sample_id: str | None = None
    suspicion: float | None = None
    label: int | float | None = None
    label_name: str | None = None
    suggested_label: int | float | None = None
    suggested_label_name: str | None = None
    confidence: float | None = None
    loss: float | None = None
