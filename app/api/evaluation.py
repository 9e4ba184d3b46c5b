"""What an evaluation follows from: the effect of each retraining, and what the methods had said of it."""

from __future__ import annotations

import json

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.deps import Blobs, Caller, Db
from app.api.jobs.resource import JobId, found_job, not_of_this_type
from app.api.problems import PROBLEMS, ApiProblem, responses
from app.store import evaluations

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"], responses=PROBLEMS | responses(404, 409))


class LeftOut(BaseModel):
    """A sample that was left out of training."""

    sample_index: int
    sample_id: str | None
    stands_for: float = Field(description="How many samples it counts as in the figures.")
    true: float | None = Field(
        description="The query loss with it minus without it: positive = harmful. null: it diverged."
    )
    predicted: dict[str, float | None] = Field(description="Its score, by method.")


class Half(BaseModel):
    """A random half of the samples that was trained on."""

    true: float | None = Field(description="The query loss at the end; null: it diverged.")
    predicted: dict[str, float | None] = Field(description="The sum of its samples' scores, by method.")


class EvaluationOut(BaseModel):
    """Pairs to plot; `exact` among the methods stands for Diff-In's exact steps."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "leave_one_out": [
                        {
                            "sample_index": 31337,
                            "sample_id": None,
                            "stands_for": 1000.0,
                            "true": 0.0021,
                            "predicted": {"diff_in": 0.0019, "exact": 0.0021},
                        }
                    ],
                    "subsets": [{"true": 0.31, "predicted": {"diff_in": -0.2, "exact": -0.21}}],
                }
            ]
        }
    )

    leave_one_out: list[LeftOut]
    subsets: list[Half]


@router.get("/evaluation", summary="What an evaluation follows from")
def get_evaluation(job_id: JobId, caller: Caller, database: Db, blobs: Blobs) -> EvaluationOut:
    """Each retraining with what it showed, samples by index; 409 until the job succeeded."""
    with database.snapshot() as session:
        job = found_job(session, caller.project_id, job_id)
        if job.type != "evaluate":
            raise not_of_this_type(job, "only jobs of type 'evaluate' retrain.")
        path = evaluations.path(session, blobs, job_id)
        if path is None:
            detail = f"The job is {job.status}; its evaluation comes with its success."
            raise ApiProblem(409, "job_not_finished", detail)
    return EvaluationOut.model_validate(json.loads(path.read_bytes()))
