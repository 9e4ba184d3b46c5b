"""What single query samples say: the opponents and proponents of each, side by side."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Db
from app.api.influences import computed
from app.api.jobs.resource import JobId
from app.api.problems import not_found
from app.api.resources import INT64
from app.store import datasets, influences
from app.store.blobs import BlobStore
from app.store.datasets import Arrays
from app.store.scored import Scored
from app.store.tables import Dataset
from app.ui import state
from app.ui.cards import Looks, cards, class_text, looks
from app.ui.shell import render
from app.ui.visitors import PageCaller

router = APIRouter(prefix="/jobs/{job_id}/queries", include_in_schema=False)

SHOWN = 12  # samples a side
SIZE = 48  # queries a page


@router.get("")
def index(
    request: Request,
    job_id: JobId,
    caller: PageCaller,
    database: Db,
    blobs: Blobs,
    page: Annotated[int, Query(ge=1, le=10**9)] = 1,
) -> HTMLResponse:
    with database.snapshot() as session:
        scored = computed(session, caller.project_id, job_id)
        asked = influences.queries(blobs.path(session, scored.job.ranked_blob or ""))
        pages = max(1, -(-len(asked) // SIZE))
        page = min(page, pages)
        found = asked[(page - 1) * SIZE : page * SIZE].tolist()
        query = _query_set(session, scored)
        return render(
            request,
            "queries.html",
            caller=caller,
            tab="queries",
            page=page,
            pages=pages,
            found=[(at, *_seen(session, blobs, query, at)) for at in found],
            **state.of(session, scored.job),
        )


@router.get("/{query_index}")
def show(
    request: Request,
    job_id: JobId,
    query_index: Annotated[int, Path(ge=0, le=INT64)],
    caller: PageCaller,
    database: Db,
    blobs: Blobs,
) -> HTMLResponse:
    with database.snapshot() as session:
        scored = computed(session, caller.project_id, job_id)
        path = blobs.path(session, scored.job.ranked_blob or "")
        train = datasets.get(session, caller.project_id, scored.job.train_dataset_id or "")
        asked = influences.queries(path)
        place = np.flatnonzero(asked == query_index)
        if train is None or not len(place):
            raise not_found("query sample", str(query_index))
        sides = {}
        for side in influences.SIDES:
            ranked = list(islice(influences.ranked(path, query_index, side) or (), SHOWN))
            shown = cards(session, blobs, scored, train, [one.sample_index for one in ranked])
            sides[side] = list(zip(ranked, shown, strict=True))
        at = int(place[0])
        seen, label = _seen(session, blobs, _query_set(session, scored), query_index)
        return render(
            request,
            "query.html",
            caller=caller,
            tab="queries",
            query_index=query_index,
            seen=seen,
            label=label,
            sides=sides,
            before=int(asked[at - 1]) if at else None,
            after=int(asked[at + 1]) if at + 1 < len(asked) else None,
            **state.of(session, scored.job),
        )


def _query_set(session: Session, scored: Scored) -> Dataset:
    found = session.get(Dataset, scored.job.query_dataset_id)
    assert found is not None  # noqa: S101  (a job by query names its data set, which stays)
    return found


def _seen(session: Session, blobs: BlobStore, dataset: Dataset, index: int) -> tuple[Looks, str]:
    """How a query sample looks, and its label in words."""
    arrays = Arrays(session, blobs, dataset)
    told = arrays.sample(index)
    target = told["target"]
    label = told["label_name"] or (class_text(float(target)) if isinstance(target, int | float) else "")
    return looks(dataset, arrays, index), label
