"""Exports: a job's scores or a selection in one file, made by a worker, downloaded, gone after a while."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Db
from app.api.downloads import described, sent
from app.api.idempotency import Answer, OncePost
from app.api.jobs.resource import JobIn, Progress, found_job
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.resources import NO_NUL, RETRY_AFTER, Edit, Id, edited, named, tagged
from app.api.scores import Order, refuse_order, scored_job
from app.api.selections.resource import found_selection
from app.catalog.base import refusal
from app.store import exports, pages
from app.store.tables import Export, Job

router = APIRouter(prefix="/v1/exports", tags=["exports"], responses=PROBLEMS)

Format = Literal["parquet", "csv", "jsonl", "npz"]
Status = Literal["queued", "running", "succeeded", "failed", "expired"]
MEDIA_TYPES: dict[str, str] = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8; header=present",
    "jsonl": "application/jsonl; charset=utf-8",
    "npz": "application/zip",
}
ExportId = Annotated[str, Path(pattern=NO_NUL, examples=["exp_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]
JOB = "job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52"


class ExportIn(JobIn):
    """What to write, and how."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"job_id": JOB, "format": "parquet"},
                {"job_id": JOB, "format": "csv", "order": "harmful", "name": "for the annotators"},
                {"selection_id": "sel_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52", "format": "jsonl"},
            ]
        }
    )

    job_id: Id | None = Field(None, description="A job of type `influence` that has succeeded.")
    selection_id: Id | None = Field(None, description="In its place: a selection that has succeeded.")
    format: Format
    order: Order | None = Field(
        None,
        description="Of a job's rows; `index` unless given: row i is sample i. Those of a selection come as "
        "they were chosen.",
    )

    @model_validator(mode="after")
    def _of_one(self) -> Self:
        if (self.job_id is None) == (self.selection_id is None):
            raise refusal("give exactly one of job_id and selection_id.")
        if self.selection_id is not None and self.order is not None:
            raise refusal("the rows of a selection come as they were chosen: leave out order.")
        return self


class ExportOut(BaseModel):
    """A file of a job's scores or of a selection; `bytes`, `sha256`, `content_url` come with its success."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "exp_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "name": "for the annotators",
                    "notes": "",
                    "metadata": {},
                    "created_at": "2026-11-25T02:00:00Z",
                    "job_id": JOB,
                    "selection_id": None,
                    "format": "csv",
                    "order": "harmful",
                    "status": "succeeded",
                    "progress": {"completed": 60000, "total": 60000, "unit": "rows", "message": "succeeded"},
                    "bytes": 7340112,
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "finished_at": "2026-11-25T02:00:01Z",
                    "expires_at": "2026-12-02T02:00:01Z",
                    "error": None,
                    "content_url": "/v1/exports/exp_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52/content",
                }
            ]
        }
    )

    id: str
    name: str
    notes: str
    metadata: dict[str, str]
    created_at: datetime
    job_id: str
    selection_id: str | None
    format: Format
    order: Order | Literal["chosen"]
    status: Status
    progress: Progress
    bytes: int | None
    sha256: str | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="When the file goes; the record stays until deleted.")
    error: dict[str, Any] | None
    content_url: str | None


def shown(session: Session, row: Export) -> ExportOut:
    """The export as clients see it."""
    status = exports.status(row)
    message = {"queued": "waiting for a worker", "running": "writing"}.get(status, status)
    progress = {"completed": exports.completed(session, row), "total": row.rows}
    plain = ("job_id", "selection_id", "format", "bytes", "finished_at", "expires_at", "error")
    return ExportOut(
        **named(row),
        **{name: getattr(row, name) for name in plain},
        order=row.ordered_by,
        status=status,
        progress=Progress(**progress, unit="rows", message=message),
        sha256=row.blob,
        content_url=f"/v1/exports/{row.id}/content" if status == "succeeded" else None,
    )


@router.post(
    "",
    status_code=202,
    summary="Export a job's scores, or a selection",
    response_model=ExportOut,
    responses=responses(404, 409),
)
def create_export(body: ExportIn, caller: Caller, once: OncePost) -> Response:
    """A worker writes the rows of `GET /v1/jobs/{id}/scores` to a file, all of them, and of a job with
    `per_query` the whole array of influences too; or those of `GET /v1/selections/{id}/samples`. 409 until
    the job or selection has succeeded.
    """

    def act(session: Session) -> Answer:
        values = {"name": body.name, "notes": body.notes, "meta": body.metadata, "format": body.format}
        if body.selection_id is not None:
            job, rows = _selected(session, caller.project_id, body.selection_id)
            values |= {"selection_id": body.selection_id, "ordered_by": "chosen"}
        else:
            order = body.order or "index"
            job, rows = _scored(session, caller.project_id, body.job_id or "", order)
            values["ordered_by"] = order
        export = exports.create(session, job, rows, **values)
        session.flush()
        return Answer(202, shown(session, export), {"Location": f"/v1/exports/{export.id}", **RETRY_AFTER})

    return once.run(act)


@router.get("", summary="List exports, newest first")
def list_exports(
    caller: Caller,
    database: Db,
    paging: PageOf,
    job_id: Annotated[str | None, Query(pattern=NO_NUL, description="Only those of this job.")] = None,
) -> Page[ExportOut]:
    binding = "exports", caller.project_id, job_id
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, Export, caller.project_id, paging.limit + 1, after=after, job_id=job_id)
        rows, cursor = paging.cut(found, pages.position, *binding)
        data = [shown(session, row) for row in rows]
    return Page(data=data, next_cursor=cursor)


@router.get("/{export_id}", summary="One export", response_model=ExportOut, responses=responses(404))
def get_export(request: Request, export_id: ExportId, caller: Caller, database: Db) -> Response:
    """With an `ETag`; until it is finished, with `Retry-After`."""
    with database.snapshot() as session:
        body = shown(session, _found(session, caller.project_id, export_id))
    return tagged(request, body, headers=None if body.status in exports.FINISHED else RETRY_AFTER)


@router.patch(
    "/{export_id}", summary="Rename an export", response_model=ExportOut, responses=responses(404, 412)
)
def edit_export(request: Request, export_id: ExportId, edit: Edit, caller: Caller, database: Db) -> Response:
    """With `If-Match` only if it still is the version of that `ETag`."""
    with database.transaction() as session:
        export = _found(session, caller.project_id, export_id)
        session.refresh(export, with_for_update=True)
        return edited(request, edit, export, partial(shown, session))


@router.get(
    "/{export_id}/content",
    summary="The file of an export",
    response_class=Response,
    responses=described(*MEDIA_TYPES.values()) | responses(404, 409, 410, 416),
)
def get_content(
    request: Request, export_id: ExportId, caller: Caller, database: Db, blobs: Blobs
) -> Response:
    """With `ETag` and `Content-Disposition`; `Range` takes a part. 409 until it is there, 410 once it has
    expired.
    """
    with database.snapshot() as session:
        export = _found(session, caller.project_id, export_id)
        _refuse_without_content(export)
        name = f"{export.selection_id or f'{export.job_id}-scores'}.{export.format}"
        kind = MEDIA_TYPES[export.format]
        return sent(request, session, blobs, export.blob or "", filename=name, media_type=kind)


@router.delete("/{export_id}", status_code=204, summary="Delete an export", responses=responses(404))
def delete_export(export_id: ExportId, caller: Caller, database: Db, blobs: Blobs) -> None:
    """With its file; one that is still being written is stopped."""
    with database.transaction() as session:
        exports.delete(session, blobs, _found(session, caller.project_id, export_id))


def _found(session: Session, project_id: str, export_id: str) -> Export:
    export = exports.get(session, project_id, export_id)
    if export is None:
        raise not_found("export", export_id)
    return export


def _scored(session: Session, project_id: str, job_id: str, order: Order) -> tuple[Job, int]:
    """(the job, locked; how many rows it has), or the problem that keeps them from being written."""
    job = found_job(session, project_id, job_id, lock=True, pointer="/job_id")
    scored = scored_job(session, project_id, job_id)
    refuse_order(scored, order, "/order")
    return job, scored.num_samples


def _selected(session: Session, project_id: str, selection_id: str) -> tuple[Job, int]:
    """(the selection's job, locked; how many rows the selection has), or the problem."""
    selection = found_selection(session, project_id, selection_id, pointer="/selection_id")
    job = found_job(session, project_id, selection.job_id, lock=True)
    selection = found_selection(session, project_id, selection_id, pointer="/selection_id", lock=True)
    if selection.status != "succeeded":
        failed = selection.status == "failed"
        why = "its `error` says why" if failed else "ask again when it has succeeded"
        detail = f"The selection {selection_id} is {selection.status}: {why}."
        raise ApiProblem(409, "selection_not_finished", detail, headers=None if failed else RETRY_AFTER)
    return job, selection.size or 0


def _refuse_without_content(export: Export) -> None:
    status = exports.status(export)
    if status == "succeeded":
        return
    if status == "expired":
        raise ApiProblem(
            410, "export_expired", "The export's time is over and its file gone: ask for another."
        )
    if status == "failed":
        detail = "The export failed, and its `error` says why."
        raise ApiProblem(409, "export_not_finished", detail)
    detail = f"The export is {status}; ask again when it has succeeded."
    raise ApiProblem(409, "export_not_finished", detail, headers=RETRY_AFTER)
