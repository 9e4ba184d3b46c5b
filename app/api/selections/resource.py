"""A selection as clients see it, and the samples it is of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.api.jobs.resource import Progress
from app.api.problems import not_found
from app.api.resources import NO_NUL, named
from app.store import chosen, selections
from app.store.chosen import Action
from app.store.tables import Selection

# Of the request: long, or for the worker only
HIDDEN = ("sample_indices", "removed", "relabelled", "training")
Type = Literal["clean", "coreset", "deletion", "decided"]
Status = Literal["queued", "running", "succeeded", "failed"]
SelectionId = Annotated[str, Path(pattern=NO_NUL, examples=["sel_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]

EXAMPLE: dict[str, Any] = {
    "id": "sel_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "name": "worst twentieth",
    "notes": "",
    "metadata": {},
    "created_at": "2026-11-25T02:00:00Z",
    "job_id": "job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "type": "clean",
    "status": "succeeded",
    "size": 3000,
    "num_samples": 60000,
    "request": {
        "auto": None,
        "size": None,
        "fraction": 0.05,
        "threshold": None,
        "by": "suspicion",
        "relabel": True,
        "rounds": 1,
        "verify": False,
    },
    "progress": {"completed": 0, "total": 0, "unit": "parts", "message": "succeeded"},
    "started_at": "2026-11-25T02:00:01Z",
    "finished_at": "2026-11-25T02:00:04Z",
    "error": None,
    "result": {
        "keep": 57000,
        "remove": 812,
        "relabel": 2188,
        "cut": 0.95,
        "estimate": None,
        "duplicates": {
            "count": 1,
            "pairs": [{"sample_index": 31337, "duplicate_index": 42, "similarity": 0.9987}],
        },
        "predicted_change": -0.031,
        "by_class": [{"label": 4, "label_name": None, "count": 5842, "selected": 311}],
        "warnings": [],
    },
}
ROW: dict[str, Any] = {
    "sample_index": 31337,
    "sample_id": None,
    "action": "relabel",
    "score": 0.00042,
    "suspicion": 0.993,
    "label": 4,
    "label_name": None,
    "suggested_label": 9,
    "suggested_label_name": None,
    "confidence": 0.91,
    "loss": 7.21,
}


class SelectionOut(BaseModel):
    """What to do about a job's scores. A worker chooses the samples: poll until `succeeded` or `failed`.

    `size` counts the samples acted on (of a coreset, those kept); null until it is known. In `result`,
    `predicted_change` is that of the mean query loss if all that is not kept as it is were removed: the sum
    of their scores, turned round; null where scores are no changes of it, or it would be no small step.
    `estimate` (of `auto`, and of a coreset that drops suspects) is {wrong, share, checkpoints, rounds}: how
    many labels are wrong, how many of the first checkpoints it was seen in, and how many runs decided; `cut`
    is the last value of what the samples were chosen by; `duplicates` are samples left behind whose inputs
    are all but the same as those of one taken out (null: too many to compare).

    A `deletion` with a checkpoint has `update`: {predicted_change: of the query loss with the updated weights
    (with the group effect), effects: {original, updated: {forget, retain, test: {loss, accuracy},
    membership_auc}}, exact_steps, moved}. The AUC tells how well low loss gives the removed samples away
    among the queries: ½ is forgotten. With `verify`, `verification`: {seeds, loss, accuracy: {before, after,
    difference: {mean, interval, each}}, changed, text, diverged, retrained (of a deletion): as `effects`}.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    name: str
    notes: str
    metadata: dict[str, str]
    created_at: datetime
    job_id: str
    type: Type
    status: Status
    size: int | None
    num_samples: int = Field(description="That the job scored.")
    request: dict[str, Any] = Field(description="As asked, defaults filled in; sample lists left out.")
    progress: Progress
    started_at: datetime | None
    finished_at: datetime | None
    error: dict[str, Any] | None
    result: dict[str, Any] | None


class SelectedOut(BaseModel):
    """A sample of a selection, what to do with it and why.

    `suggested_label` is what the model says, on average over the checkpoints, where that is another label;
    `confidence` is its probability.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [ROW]})

    sample_index: int
    sample_id: str | None
    action: Action
    score: float
    suspicion: float | None
    label: int | float | None
    label_name: str | None = None
    suggested_label: int | float | None
    suggested_label_name: str | None = None
    confidence: float | None
    loss: float | None


def shown(session: Session, selection: Selection) -> SelectionOut:
    """The selection as clients see it."""
    done, total = selections.progress(session, selection)
    plain = (
        "job_id",
        "type",
        "status",
        "size",
        "num_samples",
        "started_at",
        "finished_at",
        "error",
        "result",
    )
    return SelectionOut(
        **named(selection),
        **{name: getattr(selection, name) for name in plain},
        request={name: value for name, value in selection.request.items() if name not in HIDDEN},
        progress=Progress(completed=done, total=total, unit="parts", message=_message(selection)),
    )


def row_out(row: np.void, sample_id: str | None, classes: list[str] | None) -> SelectedOut:
    """A row of the selection's file as clients see it."""
    return SelectedOut(**chosen.told(row, sample_id, classes))


def found_selection(
    session: Session, project_id: str, selection_id: str, *, lock: bool = False, pointer: str | None = None
) -> Selection:
    """The selection, or 404."""
    selection = selections.get(session, project_id, selection_id)
    if selection is not None and lock:
        selection = selections.locked(session, selection_id)
    if selection is None:
        raise not_found("selection", selection_id, pointer)
    return selection


def _message(selection: Selection) -> str:
    waiting = {"queued": "waiting for a worker", "running": "choosing"}
    return waiting.get(selection.status, selection.status)
