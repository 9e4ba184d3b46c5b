"""Data sets: uploaded in one request, validated by a worker, looked at sample by sample (samples.py)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.api.dataset_forms import MOST_TOKENIZER, TOKENIZER, DatasetForm
from app.api.deps import Blobs, Caller, Config, Db
from app.api.idempotency import Answer, OncePost
from app.api.multipart import Upload, form_schema, received
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.resources import (
    NO_NUL,
    RETRY_AFTER,
    Edit,
    deleting,
    edited,
    named,
    refuse_use,
    tagged,
)
from app.store import datasets, jobs, pages
from app.store.blobs import BlobStore
from app.store.tables import Dataset

router = APIRouter(prefix="/v1/datasets", tags=["data sets"], responses=PROBLEMS)

Status = Literal["validating", "ready", "invalid"]
DatasetId = Annotated[str, Path(pattern=NO_NUL, examples=["ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]


class Input(BaseModel):
    """One sample's input: uint8 images are [H, W, C], float ones [C, H, W]."""

    shape: list[int]
    dtype: str


class Target(BaseModel):
    """One sample's target, and the range of all."""

    shape: list[int]
    dtype: str
    min: float | None = None
    max: float | None = None
    taken_from: Literal["inputs"] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="`inputs`: the file holds no targets, and its token ids stand for them, which is what "
        "causal_lm wants and no other task.",
    )


TABLE: dict[str, Any] = {
    "id": "ds_0197f4e7-1a2b-7c5e-9c4f-3f1f2d1f6a52",
    "name": "census",
    "notes": "",
    "metadata": {},
    "created_at": "2026-11-24T21:00:00Z",
    "format": "csv",
    "filename": "census.csv",
    "status": "ready",
    "bytes": 3974305,
    "sha256": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "error": None,
    "num_samples": 32561,
    "input": {"shape": [5], "dtype": "float32"},
    "num_classes": 2,
    "class_counts": [24720, 7841],
    "target": {"shape": [], "dtype": "int64", "min": 0, "max": 1},
    "classes": ["<=50K", ">50K"],
    "columns": {"inputs": ["age", "sex"], "targets": "income", "id": None},
    "encoding": {"kind": "table"},
    "features": [
        {
            "column": "age",
            "kind": "number",
            "indicator": True,
            "mean": 38.6,
            "std": 13.6,
            "missing": 12,
            "at": [0, 2],
        },
        {
            "column": "sex",
            "kind": "category",
            "indicator": True,
            "values": ["Female", "Male"],
            "missing": 3,
            "at": [2, 5],
        },
    ],
    "like": None,
}


class DatasetOut(BaseModel):
    """A data set. From `num_samples` on, fields are null until it is `ready`; `error` says why not.

    `classes` are the labels' names by number, `columns` those that were read, `encoding` how the inputs came
    to be numbers, `features` that of each column of a table (null in lists).
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "name": "mnist train",
                    "notes": "",
                    "metadata": {"git": "abc123"},
                    "created_at": "2026-11-23T21:00:00Z",
                    "format": "npz",
                    "filename": "mnist.npz",
                    "status": "ready",
                    "bytes": 47520262,
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "error": None,
                    "num_samples": 60000,
                    "input": {"shape": [28, 28, 1], "dtype": "uint8"},
                    "num_classes": 10,
                    "class_counts": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
                    "target": {"shape": [], "dtype": "int64", "min": 0, "max": 9},
                    "classes": None,
                    "columns": None,
                    "encoding": None,
                    "features": None,
                    "like": None,
                },
                TABLE,
            ]
        }
    )

    id: str
    name: str
    notes: str
    metadata: dict[str, str]
    created_at: datetime
    format: str
    filename: str
    status: Status
    bytes: int
    sha256: str
    error: dict[str, Any] | None = None
    num_samples: int | None = None
    input: Input | None = None
    num_classes: int | None = None
    class_counts: list[int] | None = None
    target: Target | None = None
    classes: list[str] | None = None
    columns: dict[str, Any] | None = None
    encoding: dict[str, Any] | None = None
    features: list[dict[str, Any]] | None = Field(
        None,
        description="Of each column: {column, kind: number | category, at: [first feature, the one after its "
        "last], missing: how many values, indicator: whether a feature tells where they were missing, mean, "
        "std | values}.",
    )
    like: str | None = None

    @classmethod
    def of(cls, row: Dataset, *, whole: bool = True) -> DatasetOut:
        """`whole`: with the features of a table, which may be many."""
        read = row.info.get("encoding") or {}
        inputs = dict(read.get("inputs") or {})
        features = inputs.pop("features", None)
        return cls(
            **named(row),
            format=row.format,
            filename=row.filename,
            status=row.status,
            bytes=row.bytes,
            sha256=row.sha256,
            error=row.error,
            num_samples=row.num_samples,
            input=row.info.get("input"),
            num_classes=row.num_classes,
            class_counts=row.info.get("class_counts"),
            target=row.info.get("target"),
            classes=read.get("classes"),
            columns=read.get("columns"),
            encoding=inputs or None,
            features=features if whole else None,
            like=row.options.get("like"),
        )


@router.post(
    "",
    status_code=202,
    summary="Upload a data set",
    response_model=DatasetOut,
    responses=responses(409, 413, 415),
    openapi_extra=form_schema(
        DatasetForm,
        "npz or safetensors with `inputs` [N, …], `targets` and maybe `ids`; or parquet, csv or jsonl.",
        tokenizer_file="The network's `tokenizer.json`, for text.",
    ),
)
async def create_dataset(
    request: Request, caller: Caller, database: Db, blobs: Blobs, settings: Config, once: OncePost
) -> Response:
    """Stores the file as it arrives, then answers; a worker validates it: poll until `ready` or `invalid`."""
    async with received(request, blobs, settings.max_upload_bytes, (TOKENIZER,)) as upload:
        form = upload.form(DatasetForm)
        tokenizer = upload.others.get(TOKENIZER)
        kind = form.told_format(upload.file.filename)
        form.check_for(kind, tokenizer=tokenizer is not None)
        if tokenizer is not None and tokenizer.bytes > MOST_TOKENIZER:
            detail = f"The tokenizer has {tokenizer.bytes:,} bytes; {MOST_TOKENIZER:,} at most."
            raise ApiProblem(413, "payload_too_large", detail, pointer=f"/{TOKENIZER}")
        once = once.with_body(*upload.parts())
        return await asyncio.to_thread(
            once.run, lambda session: _create(session, blobs, caller.project_id, upload, form, kind)
        )


def _create(
    session: Session, blobs: BlobStore, project_id: str, upload: Upload, form: DatasetForm, kind: str
) -> Answer:
    options, tokenizer_blob = form.options(), None
    if form.like is not None:
        other = _like(session, project_id, form.like)
        options |= {"like": other.id, "encoding": other.info["encoding"]}
        tokenizer_blob = other.tokenizer_blob
    tokenizer = upload.others.get(TOKENIZER)
    if tokenizer is not None:
        if tokenizer_blob is not None:
            detail = f"{form.like} has a tokenizer, which holds here too: leave out one of the two."
            raise ApiProblem(422, "validation_error", detail, pointer=f"/{TOKENIZER}")
        tokenizer_blob = blobs.keep(session, tokenizer.path, tokenizer.sha256)
    dataset = datasets.create(
        session,
        blobs.keep(session, upload.file.path, upload.file.sha256),
        project_id=project_id,
        name=form.name,
        notes=form.notes,
        meta=form.metadata,
        format=kind,
        filename=upload.file.filename,
        bytes=upload.file.bytes,
        options=options,
        tokenizer_blob=tokenizer_blob,
    )
    session.flush()
    return Answer(202, DatasetOut.of(dataset), {"Location": f"/v1/datasets/{dataset.id}", **RETRY_AFTER})


def _like(session: Session, project_id: str, dataset_id: str) -> Dataset:
    """The data set whose reading is taken over, kept from being deleted until the end of the transaction."""
    other = found_dataset(session, project_id, dataset_id, "/like")
    session.refresh(other, with_for_update={"read": True})
    if other.status == "validating":
        detail = f"The data set {other.id} is still being validated; ask again in a moment."
        raise ApiProblem(409, "input_not_ready", detail, pointer="/like", headers=RETRY_AFTER)
    if other.status == "invalid":
        detail = f"The data set {other.id} was refused: nothing can be like it."
        raise ApiProblem(422, "invalid_dataset", detail, pointer="/like")
    if "encoding" not in other.info:
        detail = f"{other.id} is {other.format}, which holds arrays: there is nothing to take over."
        raise ApiProblem(422, "validation_error", detail, pointer="/like")
    return other


@router.get("", summary="List data sets, newest first")
def list_datasets(
    caller: Caller, database: Db, paging: PageOf, status: Annotated[Status | None, Query()] = None
) -> Page[DatasetOut]:
    binding = "datasets", caller.project_id, status
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(
            session, Dataset, caller.project_id, paging.limit + 1, after=after, status=status
        )
    rows, cursor = paging.cut(found, pages.position, *binding)
    return Page(data=[DatasetOut.of(row, whole=False) for row in rows], next_cursor=cursor)


@router.get("/{dataset_id}", summary="One data set", response_model=DatasetOut, responses=responses(404))
def get_dataset(request: Request, dataset_id: DatasetId, caller: Caller, database: Db) -> Response:
    """With an `ETag`; while it is validating, with `Retry-After`."""
    with database.snapshot() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
    return tagged(
        request, DatasetOut.of(dataset), headers=RETRY_AFTER if dataset.status == "validating" else None
    )


@router.patch(
    "/{dataset_id}", summary="Rename a data set", response_model=DatasetOut, responses=responses(404, 412)
)
def edit_dataset(
    request: Request, dataset_id: DatasetId, edit: Edit, caller: Caller, database: Db
) -> Response:
    """With `If-Match` only if it still is the version of that `ETag`."""
    with database.transaction() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
        session.refresh(dataset, with_for_update=True)
        return edited(request, edit, dataset, DatasetOut.of)


@router.delete("/{dataset_id}", status_code=204, summary="Delete a data set", responses=responses(404, 409))
def delete_dataset(dataset_id: DatasetId, caller: Caller, database: Db, blobs: Blobs) -> None:
    """Refused with `in_use` while a job names it."""
    with deleting(f"The data set {dataset_id}"), database.transaction() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
        refuse_use(f"The data set {dataset_id}", jobs.using(session, dataset_id=dataset_id))
        datasets.delete(session, blobs, dataset)


def found_dataset(session: Session, project_id: str, dataset_id: str, pointer: str | None = None) -> Dataset:
    """The data set, or 404."""
    dataset = datasets.get(session, project_id, dataset_id)
    if dataset is None:
        raise not_found("data set", dataset_id, pointer)
    return dataset
