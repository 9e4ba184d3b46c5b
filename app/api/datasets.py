"""Data sets listed, looked at, renamed and deleted; they come by dataset_creation.py."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy.orm import Session

from app.api.dataset_models import DatasetOut, Status
from app.api.deps import Blobs, Caller, Db
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, not_found, responses
from app.api.resources import (
    NO_NUL,
    RETRY_AFTER,
    Edit,
    deleting,
    edited,
    refuse_use,
    tagged,
)
from app.store import datasets, jobs, pages
from app.store.tables import Dataset

router = APIRouter(prefix="/v1/datasets", tags=["data sets"], responses=PROBLEMS)

DatasetId = Annotated[str, Path(pattern=NO_NUL, examples=["ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]


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
