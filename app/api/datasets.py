"""Data sets: uploaded in one request, validated by a worker, looked at sample by sample (samples.py)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, Json
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Config, Db
from app.api.idempotency import Answer, OncePost
from app.api.multipart import Upload, form_schema, received
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.resources import (
    NO_NUL,
    RETRY_AFTER,
    Edit,
    GivenName,
    Metadata,
    Notes,
    deleting,
    named,
    refuse_use,
    tagged,
)
from app.store import datasets, jobs, pages
from app.store.blobs import BlobStore
from app.store.tables import Dataset

router = APIRouter(prefix="/v1/datasets", tags=["data sets"], responses=PROBLEMS)

FORMATS = {"npz": (".npz",), "safetensors": (".safetensors",)}
Format = Literal["npz", "safetensors"]
Status = Literal["validating", "ready", "invalid"]
DatasetId = Annotated[str, Path(pattern=NO_NUL, examples=["ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]


class DatasetForm(BaseModel):
    """The text fields of an upload."""

    model_config = ConfigDict(extra="forbid")

    name: GivenName = Field(description="What you call it.", examples=["mnist train"])
    format: str | None = Field(
        None, description=f"{' or '.join(FORMATS)}; by the file's ending when left out.", examples=["npz"]
    )
    notes: Notes = ""
    metadata: Json[Metadata] = Field({}, description="JSON object of up to 16 pairs of strings.")


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


class DatasetOut(BaseModel):
    """A data set. From `num_samples` on, fields are null until it is `ready`; `error` says why not."""

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
                }
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

    @classmethod
    def of(cls, row: Dataset) -> DatasetOut:
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
        )


@router.post(
    "",
    status_code=202,
    summary="Upload a data set",
    response_model=DatasetOut,
    responses=responses(409, 413, 415),
    openapi_extra=form_schema(
        DatasetForm, "npz or safetensors with `inputs` [N, …], `targets` and maybe `ids`."
    ),
)
async def create_dataset(
    request: Request, caller: Caller, database: Db, blobs: Blobs, settings: Config, once: OncePost
) -> Response:
    """Stores the file as it arrives, then answers; a worker validates it: poll until `ready` or `invalid`."""
    async with received(request, blobs, settings.max_upload_bytes) as upload:
        form = upload.form(DatasetForm)
        values = {
            "project_id": caller.project_id,
            "name": form.name,
            "notes": form.notes,
            "meta": form.metadata,
            "format": _format(form.format, upload.file.filename),
            "filename": upload.file.filename,
            "bytes": upload.file.bytes,
        }
        once = once.with_body(*upload.parts())
        return await asyncio.to_thread(once.run, lambda session: _create(session, blobs, upload, values))


def _create(session: Session, blobs: BlobStore, upload: Upload, values: dict[str, Any]) -> Answer:
    dataset = datasets.create(session, blobs.keep(session, upload.file.path, upload.file.sha256), **values)
    session.flush()
    return Answer(202, DatasetOut.of(dataset), {"Location": f"/v1/datasets/{dataset.id}", **RETRY_AFTER})


def _format(given: str | None, filename: str) -> str:
    if given in FORMATS:
        return given
    ending = PurePath(filename).suffix.lower()
    for name, endings in FORMATS.items():
        if given is None and ending in endings:
            return name
    asked = f"format {given!r}" if given is not None else f"a file called {filename!r}, with no format given"
    detail = f"No reader for {asked}; formats: {', '.join(FORMATS)}."
    raise ApiProblem(422, "unknown_format", detail, pointer="/format")


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
    return Page(data=[DatasetOut.of(row) for row in rows], next_cursor=cursor)


@router.get("/{dataset_id}", summary="One data set", response_model=DatasetOut, responses=responses(404))
def get_dataset(request: Request, dataset_id: DatasetId, caller: Caller, database: Db) -> Response:
    """With an `ETag`; while it is validating, with `Retry-After`."""
    with database.snapshot() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
    return tagged(
        request, DatasetOut.of(dataset), headers=RETRY_AFTER if dataset.status == "validating" else None
    )


@router.patch("/{dataset_id}", summary="Rename a data set", responses=responses(404))
def edit_dataset(dataset_id: DatasetId, edit: Edit, caller: Caller, database: Db) -> DatasetOut:
    with database.transaction() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
        edit.apply(dataset)
    return DatasetOut.of(dataset)


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
