"""One data set: what it holds, how its labels are spread, and its samples page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from app.api.datasets import DatasetId, found_dataset
from app.api.deps import Blobs, Db
from app.api.resources import INT64
from app.store import uses
from app.store.blobs import BlobStore
from app.store.datasets import Arrays, name_of
from app.store.tables import Dataset
from app.ui import state
from app.ui.cards import Looks, looks
from app.ui.inputs import JOBS
from app.ui.shell import render
from app.ui.visitors import PageCaller

router = APIRouter(prefix="/datasets", include_in_schema=False)

SIZE = 48  # samples a page
MOST_BARS = 200  # classes drawn; the rest is told in words


@dataclass(frozen=True)
class Bar:
    """How many samples a class has; `share` of the largest."""

    label: int
    name: str
    count: int
    share: float


@dataclass(frozen=True)
class Sample:
    """One sample of a data set."""

    index: int
    title: str
    label: str
    looks: Looks


class Shown(NamedTuple):
    """A page of samples, from 1."""

    samples: list[Sample]
    page: int
    pages: int
    total: int


Number = Annotated[str, Query(max_length=20)]


@router.get("/{dataset_id}")
def show(
    request: Request,
    dataset_id: DatasetId,
    caller: PageCaller,
    database: Db,
    blobs: Blobs,
    label: Number = "",
    at: Number = "",
    page: Annotated[int, Query(ge=1, le=INT64)] = 1,
) -> HTMLResponse:
    """`label` keeps the samples of one class, `at` turns to the page that this index is on."""
    with database.snapshot() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
        used = uses.jobs_with(session, caller.project_id, JOBS, dataset_id=dataset_id)
        ready = dataset.status == "ready"
        chosen, index = _integer(label), _integer(at)
        return render(
            request,
            "dataset.html",
            caller=caller,
            here="inputs",
            dataset=dataset,
            jobs=state.rows(session, used),
            bars=bars(dataset) if ready else [],
            label=chosen,
            at=index,
            shown=samples(session, blobs, dataset, chosen, index, page) if ready else None,
        )


def bars(dataset: Dataset) -> list[Bar]:
    """The classes with their counts."""
    counts: Sequence[int] = dataset.info.get("class_counts") or []
    names = (dataset.info.get("encoding") or {}).get("classes")
    most = max(counts, default=0) or 1
    return [
        Bar(label, name_of(names, label) or str(label), count, count / most)
        for label, count in enumerate(counts[:MOST_BARS])
    ]


def samples(
    session: Session, blobs: BlobStore, dataset: Dataset, label: int | None, at: int | None, page: int
) -> Shown:
    """A page of the samples with this label, or of all; the one with index `at`, or the next there is."""
    arrays = Arrays(session, blobs, dataset)
    found: Any = range(len(arrays))
    if label is not None:
        alike = np.asarray(arrays.targets[:]) == label if arrays.targets.ndim == 1 else np.zeros(0, bool)
        found = np.flatnonzero(alike)
    pages = max(1, -(-len(found) // SIZE))
    if at is not None:
        page = int(np.searchsorted(found, at) if label is not None else max(0, at)) // SIZE + 1
    page = min(page, pages)
    chosen = [int(index) for index in found[(page - 1) * SIZE : page * SIZE]]
    return Shown([_sample(dataset, arrays, index) for index in chosen], page, pages, len(found))


def _sample(dataset: Dataset, arrays: Arrays, index: int) -> Sample:
    target = np.asarray(arrays.targets[index])
    label = "" if target.ndim else name_of(arrays.classes, target.item()) or f"{target.item():.6g}"
    title = f"index {index}" if arrays.ids is None else str(arrays.ids[index])
    return Sample(index, title, label, looks(dataset, arrays, index))


def _integer(text: str) -> int | None:
    """A number out of a form; what is none asks for nothing."""
    try:
        return int(text)
    except ValueError:
        return None
