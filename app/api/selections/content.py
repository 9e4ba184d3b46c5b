"""What a selection is of: its samples page by page, and the index lists that a loader takes."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Db
from app.api.downloads import BINARY, described, sent
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.resources import RETRY_AFTER, known
from app.api.selections.manifest import MEDIA_TYPES, Format, written
from app.api.selections.resource import SelectedOut, SelectionId, found_selection, row_out
from app.store import chosen, scores, selections
from app.store.blobs import BlobStore
from app.store.chosen import Rows
from app.store.rows import Rows as Ids
from app.store.tables import Dataset, Job, Selection

router = APIRouter(
    prefix="/v1/selections/{selection_id}", tags=["selections"], responses=PROBLEMS | responses(404, 409)
)


class Relabelled(BaseModel):
    """A sample, and the label it should have."""

    sample_index: int
    sample_id: str | None
    label: int | float | None


class ManifestOut(BaseModel):
    """Indices into the training set. Each sample is in one of the three lists, all of them ascending."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "selection_id": "sel_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "job_id": "job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "train_dataset_id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "type": "clean",
                    "num_samples": 6,
                    "keep": [0, 1, 3, 5],
                    "remove": [4],
                    "relabel": [{"sample_index": 2, "sample_id": "img-2", "label": 9}],
                    "keep_ids": ["img-0", "img-1", "img-3", "img-5"],
                    "remove_ids": ["img-4"],
                }
            ]
        }
    )

    selection_id: str
    job_id: str
    train_dataset_id: str | None
    type: str
    num_samples: int
    keep: list[int]
    remove: list[int]
    relabel: list[Relabelled]
    keep_ids: list[str] | None = Field(description="Of `keep`, in its order; null where samples have no ids.")
    remove_ids: list[str] | None


class Chosen(NamedTuple):
    """A selection that succeeded: its record, its job's, its rows and their digest."""

    selection: Selection
    job: Job
    rows: Rows
    digest: str


@router.get("/samples", summary="The samples of a selection")
def list_samples(
    selection_id: SelectionId, caller: Caller, database: Db, blobs: Blobs, paging: PageOf
) -> Page[SelectedOut]:
    """Of `clean` the worst first, of `coreset` the best first, of `deletion` by index. 409 until it
    succeeded.
    """
    binding = "selected", selection_id
    (after,) = paging.after(*binding) or (0,)
    with database.snapshot() as session:
        found = _chosen(session, blobs, caller.project_id, selection_id)
        some = list(enumerate(found.rows[after : after + paging.limit + 1], start=after + 1))
        page, cursor = paging.cut(some, lambda row: [row[0]], *binding)
        ids = scores.ids_of(session, found.job.id, [int(row["sample_index"]) for _, row in page])
        classes = _classes(session, found.job)
    data = [row_out(row, ids.get(int(row["sample_index"])), classes) for _, row in page]
    return Page(data=data, next_cursor=cursor)


@router.get(
    "/checkpoint",
    summary="A deletion's updated checkpoint",
    response_class=Response,
    responses=described(BINARY) | responses(416),
)
def get_checkpoint(
    request: Request, selection_id: SelectionId, caller: Caller, database: Db, blobs: Blobs
) -> Response:
    """The run's last checkpoint as it would be without the samples, by their influence on it, with `ETag`;
    `Range` takes a part. 409 `not_computed` where none was made.
    """
    with database.snapshot() as session:
        _chosen(session, blobs, caller.project_id, selection_id)
        digest = selections.blob(session, selection_id, selections.CHECKPOINT)
        if digest is None:
            detail = (
                "There is no updated checkpoint: one comes with a deletion, unless it says checkpoint: false."
            )
            raise ApiProblem(409, "not_computed", detail)
        name = f"{selection_id}.safetensors"
        return sent(request, session, blobs, digest, filename=name, media_type=BINARY)


@router.get(
    "/manifest",
    summary="A selection as index lists",
    response_model=ManifestOut,
    responses={
        200: {"content": {"text/csv": {}, "application/yaml": {}}, "description": "In the form asked for."},
        304: {"description": "It is the version you have."},
    },
)
def get_manifest(
    request: Request,
    selection_id: SelectionId,
    caller: Caller,
    database: Db,
    blobs: Blobs,
    form: Annotated[
        Format,
        Query(
            alias="format",
            description="`csv`: a row a training sample: sample_index, action, label (of those to relabel), "
            "sample_id if samples have ids. `dvc`: the file that makes DVC track that CSV.",
        ),
    ] = "json",
) -> Response:
    """Which samples to keep, remove and relabel, by their index in the training set, and by their ids where
    they have some; with `ETag`. 409 until the selection succeeded.
    """
    with database.snapshot() as session:
        found = _chosen(session, blobs, caller.project_id, selection_id)
        ids = _ids(session, blobs, found.job)
    headers = {"ETag": f'"{found.digest}.ids.{form}"', "Cache-Control": "private, no-cache"}
    if known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if form != "json":
        name = f"{selection_id}.csv" + (".dvc" if form == "dvc" else "")
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    body = written(found.selection, found.job, found.rows, ids, form)
    return Response(body, headers=headers, media_type=MEDIA_TYPES[form])


def _chosen(session: Session, blobs: BlobStore, project_id: str, selection_id: str) -> Chosen:
    """The selection with its rows, or 404, or 409 where it has none (yet)."""
    selection = found_selection(session, project_id, selection_id)
    file = selections.path(session, blobs, selection_id, selections.ROWS)
    if selection.status != "succeeded" or file is None:
        why = (
            "it failed, and its `error` says why" if selection.status == "failed" else "ask again in a moment"
        )
        detail = f"The selection is {selection.status}: {why}."
        headers = None if selection.status == "failed" else RETRY_AFTER
        raise ApiProblem(409, "selection_not_finished", detail, headers=headers)
    path, digest = file
    return Chosen(selection, session.get_one(Job, selection.job_id), chosen.read(path), digest)


def _ids(session: Session, blobs: BlobStore, job: Job) -> Ids | None:
    """The training samples' own ids, where they have some."""
    train = session.get(Dataset, job.train_dataset_id) if job.train_dataset_id else None
    if train is None or train.ids_blob is None:
        return None
    return Ids(blobs.path(session, train.ids_blob))


def _classes(session: Session, job: Job) -> list[str] | None:
    train = session.get(Dataset, job.train_dataset_id) if job.train_dataset_id else None
    return (train.info.get("encoding") or {}).get("classes") if train is not None else None
