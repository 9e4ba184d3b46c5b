"""Scores of a finished job: ranked pages, one sample over the checkpoints, and a summary.

Positive = harmful: having the sample in training raised the query loss.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Db
from app.api.jobs.resource import JobId, found_job, not_of_this_type
from app.api.pagination import Page, PageOf, answered
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.api.resources import INT64, RETRY_AFTER
from app.api.samples import number_of
from app.store import columns, jobs, orders, scores, summary, trajectories
from app.store import scored as scored_rows
from app.store.datasets import name_of
from app.store.scored import Scored, label_of

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["scores"], responses=PROBLEMS | responses(404, 409))

Order = Literal["harmful", "helpful", "self_influence", "suspicion", "index"]
COMPUTED = ("self_influence", "suspicion")  # orders by columns that not every job has
Number = Annotated[float | None, Query(allow_inf_nan=False)]
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
BINS = 50
CLASSES = 1000  # of a summary at most
EXAMPLE: dict[str, Any] = {
    "sample_index": 31337,
    "sample_id": None,
    "score": 0.00042,
    "rank": 1,
    "percentile": 100.0,
    "standard_error": None,
    "self_influence": None,
    "suspicion": 0.993,
    "label": 4,
    "label_name": None,
    "predicted_label": 9,
    "predicted_label_name": None,
    "loss": 7.21,
    "agrees": False,
}


class ScoreOut(BaseModel):
    """A sample's score. `rank` 1 is the most harmful; prediction and loss are the last checkpoint's."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    sample_index: int
    sample_id: str | None
    score: float
    rank: int
    percentile: float = Field(description="100·(1 - (rank - 1)/n)")
    standard_error: float | None = Field(
        description="Of the score, over repeats or over trajectories; null where there is but one."
    )
    self_influence: float | None
    suspicion: float | None = Field(
        description="From 0 to 1: how much points to a wrong label; null where the targets are no classes."
    )
    label: int | float | None
    label_name: str | None = Field(None, description="The label's name, where the data set has names.")
    predicted_label: int | float | None = Field(
        description="Of pairs (task contrastive), where `label` is null: the sample_index of the caption of "
        "its group that fits the image best."
    )
    predicted_label_name: str | None = None
    loss: float
    agrees: bool | None = Field(
        description="Whether the prediction is the given label or, of pairs, the pair itself; null for "
        "regression."
    )


class Contribution(BaseModel):
    """What the segment of one checkpoint adds to a score, and the sample's loss there."""

    checkpoint_id: str
    trajectory_id: str | None
    step: int | None
    contribution: float
    loss: float | None


class ScoreDetail(ScoreOut):
    """One training sample's score and its parts, which add up to it: when it helped, when it hurt."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                EXAMPLE
                | {
                    "contributions": [
                        {
                            "checkpoint_id": "ck_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                            "trajectory_id": "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                            "step": 938,
                            "contribution": 0.00042,
                            "loss": 7.21,
                        }
                    ]
                }
            ]
        }
    )

    contributions: list[Contribution]


class HistogramOut(BaseModel):
    """`counts[i]` scores lie from `edges[i]` to `edges[i + 1]`."""

    edges: list[float]
    counts: list[int]


class ClassSummary(BaseModel):
    """The scores of one given label."""

    label: int | float | None
    label_name: str | None = None
    count: int
    mean_score: float
    mean_loss: float
    harmful: int = Field(description="Samples with a positive score.")


class SummaryOut(BaseModel):
    """The scores of a job in figures; `by_class` is null for regression and for pairs."""

    count: int
    mean: float
    std: float
    min: float
    max: float
    quantiles: dict[str, float] = Field(examples=[{"0.5": -0.00001}])
    histogram: HistogramOut
    by_class: list[ClassSummary] | None


@router.get("/scores", summary="A job's scores", response_model=Page[ScoreOut])
def list_scores(
    job_id: JobId,
    caller: Caller,
    database: Db,
    paging: PageOf,
    order: Annotated[Order, Query(description="Ties go by index.")] = "harmful",
    label: Number = None,
    label_name: Annotated[str | None, Query(description="Only samples of the label of this name.")] = None,
    least: Annotated[float | None, Query(alias="min", allow_inf_nan=False)] = None,
    most: Annotated[float | None, Query(alias="max", allow_inf_nan=False)] = None,
) -> Response:
    """`harmful` starts with the highest score, `helpful` with the lowest, `suspicion` with the sample most
    likely labelled wrongly.
    """
    binding = "scores", job_id, order, label, label_name, least, most
    after = paging.after(*binding)
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
        refuse_order(scored, order, "query:order")
        if label_name is not None:
            label = number_of(scored.classes, label_name, "query:label_name")
        found = orders.page(
            session, job_id, order, paging.limit + 1, after=after, label=label, least=least, most=most
        )
    rows, cursor = paging.cut(found, lambda row: orders.position(row, order), *binding)
    return answered([scored_rows.row(row, scored) for row in rows], cursor)


@router.get("/scores/{sample_index}", summary="One sample's score and its parts")
def get_score(
    job_id: JobId, sample_index: Annotated[int, Path(ge=0, le=INT64)], caller: Caller, database: Db
) -> ScoreDetail:
    """`contributions` has one entry a checkpoint, by step, one trajectory after the other; they add up to
    `score`.
    """
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
        row = scores.one(session, job_id, sample_index)
        if row is None:
            detail = (
                f"The job scored samples 0 to {scored.num_samples - 1}; there is no sample {sample_index}."
            )
            raise ApiProblem(404, "not_found", detail)
        ids = scored.job.checkpoint_ids
        checkpoints = {one.id: one for one in trajectories.in_order(session, ids)}
    parts = zip(ids, scores.contributions(row), scores.losses(row), strict=True)
    contributions = [
        Contribution(
            checkpoint_id=name,
            trajectory_id=checkpoints[name].trajectory_id if name in checkpoints else None,
            step=checkpoints[name].step if name in checkpoints else None,
            contribution=part,
            loss=loss,
        )
        for name, part, loss in parts
    ]
    return ScoreDetail(**scored_rows.row(row, scored), contributions=contributions)


@router.get("/summary", summary="A job's scores in figures")
def get_summary(job_id: JobId, caller: Caller, database: Db, blobs: Blobs) -> SummaryOut:
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
        table = columns.of(session, blobs, job_id)
    found = table["score"]
    edges, counts = summary.histogram(found, BINS)
    classes = [] if scored.regression or scored.pairs else summary.by_class(table)
    return SummaryOut(
        count=len(table),
        **summary.moments(found),
        quantiles=dict(zip(map(str, QUANTILES), summary.quantiles(found, QUANTILES), strict=True)),
        histogram=HistogramOut(edges=edges, counts=counts),
        by_class=[ClassSummary(**row | _class(row["label"], scored)) for row in classes[:CLASSES]] or None,
    )


def scored_job(session: Session, project_id: str, job_id: str, *, lock: bool = False) -> Scored:
    """The job, if it has scores; else 404, or 409 `job_not_finished` or `wrong_job_type`. Locked, nobody
    deletes it meanwhile.
    """
    job = found_job(session, project_id, job_id, lock=lock)
    if job.type != "influence":
        raise not_of_this_type(job, "scores come from influence jobs, over a trajectory.")
    if job.status != "succeeded":
        why = {
            "failed": "it failed, and its `error` says why",
            "cancelled": "it was cancelled",
            "cancelling": "it is being cancelled",
        }.get(job.status, f"it is {job.status}; ask again when it has succeeded")
        headers = None if job.status in jobs.FINISHED else RETRY_AFTER
        raise ApiProblem(409, "job_not_finished", f"The job {job_id} has no scores: {why}.", headers=headers)
    return scored_rows.of(session, job)


def refuse_order(scored: Scored, order: Order, pointer: str) -> None:
    """Raises 409 `not_computed` for an order by a column that the job does not have."""
    if order in COMPUTED and not (scored.job.result or {}).get(order):
        detail = f"This job did not compute {order.replace('_', '-')}; ask for another order."
        raise ApiProblem(409, "not_computed", detail, pointer=pointer)


def _class(label: float | None, scored: Scored) -> dict[str, Any]:
    return {"label": label_of(label), "label_name": name_of(scored.classes, label)}
