"""Two jobs over the same samples held against each other."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.api.deps import Caller, Db
from app.api.jobs.resource import JobId, found_job
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.resources import NO_NUL, tagged
from app.api.scores import scored_job
from app.store import agreement, scores
from app.store.scored import Scored
from app.store.tables import Dataset

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["scores"], responses=PROBLEMS | responses(404, 409))

TOPS = (10, 100, 1000)
MOST_TOPS = 20
MOST_SAMPLES = 200_000  # above which Kendall's τ takes longer than a request should
JOBS = ("job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52", "job_0197f4e9-1c2d-7c5e-9c4f-3f1f2d1f6a52")


class TopOut(BaseModel):
    """Which share of the `k` most harmful, and of the `k` most helpful samples both jobs name."""

    k: int
    harmful: float
    helpful: float


class ComparisonOut(BaseModel):
    """How far the scores of two jobs agree; 1: they order the samples alike, 0: no relation, -1: reversed."""

    model_config = ConfigDict(
        validate_by_name=True,
        serialize_by_alias=True,
        json_schema_extra={
            "examples": [
                {
                    "job_id": JOBS[0],
                    "with": JOBS[1],
                    "num_samples": 60000,
                    "spearman": 0.912,
                    "kendall": 0.764,
                    "top": [{"k": 100, "harmful": 0.83, "helpful": 0.77}],
                }
            ]
        },
    )

    job_id: str
    other: str = Field(alias="with")
    num_samples: int
    spearman: float | None = Field(
        description="Spearman's rho, ties sharing their mean rank; null where a job's scores are all alike."
    )
    kendall: float | None = Field(
        description=f"Kendall's tau-b; null likewise, and for more than {MOST_SAMPLES:,} samples."
    )
    top: list[TopOut]


@router.get("/compare", summary="Hold a job's scores against another's", response_model=ComparisonOut)
def compare(
    request: Request,
    job_id: JobId,
    caller: Caller,
    database: Db,
    other: Annotated[
        str, Query(alias="with", pattern=NO_NUL, description="The other job, over the same samples.")
    ],
    tops: Annotated[
        list[Annotated[int, Query(ge=1)]] | None,
        Query(alias="k", max_length=MOST_TOPS, description="Sizes of the tops compared; repeatable."),
    ] = None,
) -> Response:
    """Rank correlations of their scores, and the overlap of the top k. 409 until both have succeeded; 422
    where they scored different data.
    """
    with database.snapshot() as session:
        mine = scored_job(session, caller.project_id, job_id)
        found_job(session, caller.project_id, other, pointer="query:with")
        theirs = scored_job(session, caller.project_id, other)
        _refuse_other_samples(session, mine, theirs)
        n = mine.num_samples
        a, b = (scores.arrays(session, one, "score")["score"] for one in (job_id, other))
    body = ComparisonOut(
        job_id=job_id,
        other=other,
        num_samples=n,
        spearman=agreement.spearman(a, b),
        kendall=agreement.kendall(a, b) if n <= MOST_SAMPLES else None,
        top=[TopOut.model_validate(one) for one in agreement.shared(a, b, _sizes(tops, n))],
    )
    return tagged(request, body)


def _sizes(asked: list[int] | None, n: int) -> list[int]:
    if asked is None:
        return [k for k in TOPS if k < n] or [max(1, n // 2)]
    for k in asked:
        if k > n:
            detail = f"The jobs scored {n} samples; there is no top {k}."
            raise ApiProblem(422, "validation_error", detail, pointer="query:k")
    return sorted(set(asked))


def _refuse_other_samples(session: Session, mine: Scored, theirs: Scored) -> None:
    """Raises 422 unless sample i of the one job is sample i of the other."""
    ids = [one.job.train_dataset_id for one in (mine, theirs)]
    if ids[0] == ids[1]:
        return
    first, second = (session.get_one(Dataset, one) for one in ids)
    if (first.inputs_blob, first.targets_blob) == (second.inputs_blob, second.targets_blob):
        return  # the same file, uploaded twice
    detail = (
        f"The jobs scored different data: {first.id} ({first.num_samples} samples) and {second.id} "
        f"({second.num_samples}). Sample i of the one is not sample i of the other, so that their scores "
        "cannot be held against each other: compare jobs of one training set."
    )
    raise ApiProblem(422, "data_sets_differ", detail, pointer="query:with")
