"""What the caller decided about a job's samples: keep, remove or relabel; written, listed, downloaded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy.orm import Session

from app.api.deps import Caller, Db
from app.api.jobs.resource import JobId
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.resources import INT64, NO_NUL, Body
from app.api.samples import number_of
from app.api.scores import scored_job
from app.api.selections.admission import has_classes
from app.catalog.base import refusal
from app.store import decisions, scores
from app.store.chosen import Action
from app.store.datasets import name_of
from app.store.db import Database
from app.store.decisions import Decided, Word
from app.store.scored import Scored, label_of
from app.store.spreadsheets import harmless
from app.store.tables import Dataset

router = APIRouter(
    prefix="/v1/jobs/{job_id}/decisions", tags=["decisions"], responses=PROBLEMS | responses(404, 409)
)

MOST = 1000  # decisions a call
Format = Literal["json", "csv"]
MEDIA_TYPES: dict[Format, str] = {"json": "application/json", "csv": "text/csv"}
EXAMPLE: dict[str, Any] = {
    "sample_index": 31337,
    "sample_id": None,
    "action": "relabel",
    "label": 9,
    "label_name": None,
    "updated_at": "2026-11-25T09:00:00Z",
    "key_id": "key_0197f4e5-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "key_name": "first key",
}


class DecisionIn(Body):
    """One sample's decision. `relabel` comes with `label` or `label_name`; nothing else does."""

    sample_index: int = Field(ge=0, le=INT64)
    action: Action | None = Field(description="null takes the decision back.")
    label: int | None = Field(None, ge=0, le=INT64, description="Of relabel: the label it should have.")
    label_name: Annotated[str, StringConstraints(pattern=NO_NUL)] | None = Field(
        None, description="The same by its name, where the data set's labels have names."
    )

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        given = [name for name in ("label", "label_name") if getattr(self, name) is not None]
        if self.action == "relabel" and len(given) != 1:
            raise refusal("relabel takes one of label and label_name.")
        if self.action != "relabel" and given:
            raise refusal(f"{given[0]} goes with relabel only.")
        return self


class DecisionsIn(Body):
    """Decisions to write; no sample twice."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decisions": [
                        {"sample_index": 17, "action": "remove"},
                        {"sample_index": 31337, "action": "relabel", "label": 9},
                        {"sample_index": 42, "action": None},
                    ]
                }
            ]
        }
    )

    decisions: list[DecisionIn] = Field(min_length=1, max_length=MOST)

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if len({one.sample_index for one in self.decisions}) < len(self.decisions):
            raise refusal("a sample stands more than once in decisions.")
        return self


class DecisionCounts(BaseModel):
    """How many of the job's samples the caller decided on, by action, after this call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keep": 3, "remove": 41, "relabel": 12}]})

    keep: int
    remove: int
    relabel: int


class DecisionOut(BaseModel):
    """A decision, when it was last changed, and the key of whoever made it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    sample_index: int
    sample_id: str | None
    action: Action
    label: int | float | None = Field(description="Of relabel: the label it should have.")
    label_name: str | None = Field(None, description="The label's name, where the data set has names.")
    updated_at: datetime
    key_id: str
    key_name: str


@router.put("", summary="Decide about samples")
def put_decisions(job_id: JobId, body: DecisionsIn, caller: Caller, database: Db) -> DecisionCounts:
    """All of them, or none where one is refused. A decision replaces the caller's earlier one on the sample,
    and changes no data: make a selection of type `decided` to act on them.
    """
    with database.transaction() as session:
        scored = scored_job(session, caller.project_id, job_id, lock=True)
        return DecisionCounts(**decide(session, scored, caller.key_id, body.decisions))


@router.get("", summary="Decisions about a job's samples")
def list_decisions(
    job_id: JobId,
    caller: Caller,
    database: Db,
    paging: PageOf,
    action: Annotated[Action | None, Query()] = None,
    everyone: Annotated[
        bool, Query(description="Those of all keys of the project, not of the caller's alone.")
    ] = False,
) -> Page[DecisionOut]:
    """By sample index, and of one sample by key."""
    key_id = None if everyone else caller.key_id
    binding = "decisions", job_id, action, key_id
    after = paging.after(*binding)
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
        found = decisions.page(session, job_id, paging.limit + 1, key_id=key_id, action=action, after=after)
        rows, cursor = paging.cut(found, decisions.position, *binding)
        return Page(data=told(session, scored, rows), next_cursor=cursor)


@router.get(
    "/content",
    summary="The caller's decisions as a file",
    response_class=Response,
    responses={
        200: {
            "content": {
                "application/json": {"example": {"job_id": "job_…", "decisions": [EXAMPLE]}},
                "text/csv": {},
            },
            "description": "In the form asked for.",
        }
    },
)
def get_decisions(
    job_id: JobId,
    caller: Caller,
    database: Db,
    form: Annotated[Format, Query(alias="format", description="The same fields in either.")] = "json",
) -> StreamingResponse:
    """By sample index; kept samples too, which a selection's manifest does not tell from the undecided."""
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
    rows = _rows(database, scored, caller.key_id)
    name = f'attachment; filename="{job_id}-decisions.{form}"'
    headers = {"Content-Disposition": name, "Cache-Control": "private, no-store"}
    content = _json(job_id, rows) if form == "json" else _csv(rows)
    return StreamingResponse(content, headers=headers, media_type=MEDIA_TYPES[form])


def decide(session: Session, scored: Scored, key_id: str, wanted: Sequence[DecisionIn]) -> dict[Action, int]:
    """Writes the decisions of a key; what it decided on in all, by action. The caller holds the job's lock.

    Raises:
        ApiProblem: 422 for a sample or a label that is not there, naming each.
    """
    classes = classes_of(session, scored) if any(one.action == "relabel" for one in wanted) else 0
    words, errors = [], []
    for at, one in enumerate(wanted):
        where = f"/decisions/{at}"
        if one.sample_index >= scored.num_samples:
            last = scored.num_samples - 1
            errors.append((f"{where}/sample_index", f"the job scored samples 0 to {last}"))
        label = one.label
        if one.label_name is not None:
            label = number_of(scored.classes, one.label_name, f"{where}/label_name")
        if label is not None and classes is None:
            detail = f"Samples of the task {scored.task} have no classes to choose another of: remove them."
            raise ApiProblem(422, "no_classes", detail, pointer=f"{where}/action")
        if label is not None and classes is not None and label >= classes:
            errors.append((f"{where}/label", f"the data set has classes 0 to {classes - 1}, not {label}"))
        words.append(Word(one.sample_index, one.action, None if label is None else float(label)))
    if errors:
        code = "index_out_of_range" if errors[0][0].endswith("index") else "unknown_label"
        shown = "; ".join(f"{pointer}: {detail}" for pointer, detail in errors[:5])
        raise ApiProblem(422, code, f"Nothing was written. {shown}.", errors=errors)
    decisions.decide(session, scored.job.id, key_id, words)
    return decisions.counts(session, scored.job.id, key_id)


def classes_of(session: Session, scored: Scored) -> int | None:
    """How many classes the data set knows; None where its targets are no classes."""
    if not has_classes(session, scored):
        return None
    if scored.classes is not None:
        return len(scored.classes)
    train = session.get(Dataset, scored.job.train_dataset_id)
    known = train.num_classes if train is not None else None
    return max(2, known or 0) if scored.task == "binary" else known


def told(session: Session, scored: Scored, found: Sequence[Decided]) -> list[DecisionOut]:
    """The decisions as clients see them."""
    ids = scores.ids_of(session, scored.job.id, [row.decision.sample_index for row in found])
    return [
        DecisionOut(
            sample_index=row.decision.sample_index,
            sample_id=ids.get(row.decision.sample_index),
            action=row.decision.action,
            label=label_of(row.decision.label),
            label_name=name_of(scored.classes, row.decision.label),
            updated_at=row.decision.updated_at,
            key_id=row.decision.key_id,
            key_name=row.key_name,
        )
        for row in found
    ]


def _rows(database: Database, scored: Scored, key_id: str) -> Iterator[DecisionOut]:
    with database.snapshot() as session:
        for some in decisions.every(session, scored.job.id, key_id=key_id):
            yield from told(session, scored, some)


def _json(job_id: str, rows: Iterator[DecisionOut]) -> Iterator[str]:
    yield f'{{"job_id": {json.dumps(job_id)}, "decisions": ['
    for at, row in enumerate(rows):
        yield (",\n" if at else "\n") + row.model_dump_json()
    yield "\n]}\n"


def _csv(rows: Iterator[DecisionOut]) -> Iterator[str]:
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, list(DecisionOut.model_fields), lineterminator="\n")
    table.writeheader()
    for row in rows:
        cells = row.model_dump(mode="json")
        table.writerow({name: harmless(one) if isinstance(one, str) else one for name, one in cells.items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()
