"""What single query samples say: the training samples behind each, and the whole matrix to download."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Db
from app.api.downloads import BINARY, described, sent
from app.api.jobs.resource import JobId
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.resources import INT64
from app.api.scores import scored_job
from app.store import scores
from app.store.datasets import name_of
from app.store.influences import Side, ranked
from app.store.scored import Scored, label_of

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["scores"], responses=PROBLEMS | responses(404, 409))

EXAMPLE: dict[str, Any] = {"rank": 1, "sample_index": 31337, "sample_id": None, "score": 0.0021}
EXAMPLE |= {"label": 4, "label_name": None}


class InfluenceOut(BaseModel):
    """A training sample's influence on the loss of one query sample: positive = it raised it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    rank: int = Field(description="1 is the strongest.")
    sample_index: int
    sample_id: str | None
    score: float
    label: int | float | None
    label_name: str | None = None


@router.get("/queries/{query_index}/influences", summary="The training samples behind one query sample")
def list_influences(
    job_id: JobId,
    query_index: Annotated[int, Path(ge=0, le=INT64, description="In the query data set.")],
    caller: Caller,
    database: Db,
    blobs: Blobs,
    paging: PageOf,
    order: Annotated[
        Side, Query(description="`opponents` raised its loss, `proponents` lowered it; strongest first.")
    ] = "opponents",
) -> Page[InfluenceOut]:
    """As many of each as the job's `top_k`; 409 `not_computed` for a job without `per_query`."""
    binding = "influences", job_id, query_index, order
    (after,) = paging.after(*binding) or (0,)
    with database.snapshot() as session:
        scored = computed(session, caller.project_id, job_id)
        job = scored.job
        found = ranked(blobs.path(session, job.ranked_blob or ""), query_index, order, after)
        if found is None:
            detail = f"The job asked no query sample {query_index}; its `query` says which it asked."
            raise ApiProblem(404, "not_found", detail)
        rows, cursor = paging.cut(list(islice(found, paging.limit + 1)), lambda row: [row.rank], *binding)
        samples = scores.some(session, job_id, [row.sample_index for row in rows])
    data = [
        InfluenceOut(
            **row._asdict(),
            sample_id=samples[row.sample_index].sample_id,
            label=label_of(samples[row.sample_index].label),
            label_name=name_of(scored.classes, samples[row.sample_index].label),
        )
        for row in rows
    ]
    return Page(data=data, next_cursor=cursor)


@router.get(
    "/influences/content",
    summary="All influences as one array",
    response_class=Response,
    responses=described(BINARY) | responses(416),
)
def get_influences(request: Request, job_id: JobId, caller: Caller, database: Db, blobs: Blobs) -> Response:
    """The influences [N, K] of N training samples on K query samples, float32 `.npy`, with `ETag`; `Range`
    takes a part. Columns stand in the order of the job's `query`: by index, or as its `indices` have it.
    """
    with database.snapshot() as session:
        job = computed(session, caller.project_id, job_id).job
        name = f"{job_id}-influences.npy"
        return sent(request, session, blobs, job.influences_blob or "", filename=name, media_type=BINARY)


def computed(session: Session, project_id: str, job_id: str) -> Scored:
    """The job, if it scored by query; else 409 `not_computed`."""
    scored = scored_job(session, project_id, job_id)
    if scored.job.influences_blob is None:
        detail = "This job did not score by query; start one with per_query: true."
        raise ApiProblem(409, "not_computed", detail)
    return scored
