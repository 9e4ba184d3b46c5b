"""What single query samples say: the opponents and proponents of each, side by side."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse

from app.api.deps import Blobs, Db
from app.api.influences import computed
from app.api.jobs.resource import JobId
from app.api.problems import not_found
from app.api.resources import INT64
from app.store import influences
from app.store.datasets import Arrays
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
        query = session.get_one(Dataset, scored.job.query_dataset_id)
        arrays = Arrays(session, blobs, query)
        return render(
            request,
            "queries.html",
            caller=caller,
            tab="queries",
            page=page,
            pages=pages,
            found=[(at, *_seen(query, arrays, at)) for at in found],
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
        asked = influences.queries(path)
        place = np.flatnonzero(asked == query_index)
        if not len(place):
            raise not_found("query sample", str(query_index))
        sides = {}
        for side in influences.SIDES:
            ranked = list(islice(influences.ranked(path, query_index, side) or (), SHOWN))
            shown = cards(session, blobs, scored, [one.sample_index for one in ranked])
            sides[side] = list(zip(ranked, shown, strict=True))
        at = int(place[0])
        query = session.get_one(Dataset, scored.job.query_dataset_id)
        seen, label = _seen(query, Arrays(session, blobs, query), query_index)
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


def _seen(dataset: Dataset, arrays: Arrays, index: int) -> tuple[Looks, str]:
    """How a query sample looks, and its label in words."""
    told = arrays.sample(index)
    target = told["target"]
    label = told["label_name"] or (class_text(float(target)) if isinstance(target, int | float) else "")
    return looks(dataset, arrays, index), label
