"""What a job will cost, before it is paid."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.api.admission import Admitted
from app.api.deps import Blobs, Caller, Config
from app.api.idempotency import Answer, OncePost
from app.api.jobs import InfluenceJobIn, admitted
from app.api.problems import PROBLEMS, responses
from app.store import jobs
from app.store.tables import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

PARAMETER_VECTORS = 4  # the checkpoint, the vectors shared by all samples, and one in the making


class Estimate(BaseModel):
    """What a job will take. `seconds` and `device` are null until a job like it has succeeded."""

    forward_passes: int = Field(
        description="Of one sample each; a gradient counts as several.", examples=[900000]
    )
    seconds: float | None = Field(examples=[31.5])
    device: str | None = Field(examples=["cpu"])
    memory_bytes: int = Field(description="Of the worker, at most.", examples=[1074000000])
    basis: Literal["trajectory", "architecture"] | None = Field(
        description="Whose last job `seconds` follows from: this trajectory's, or this network's."
    )


@router.post(
    "/estimate", summary="Estimate a job's cost", response_model=Estimate, responses=responses(404, 409)
)
def estimate_job(
    body: InfluenceJobIn, caller: Caller, blobs: Blobs, settings: Config, once: OncePost
) -> Response:
    """Takes the same body as a job, makes the same checks, and starts nothing."""

    def estimate(session: Session) -> Answer:
        inputs = admitted(session, blobs, caller.project_id, body)
        method = body.method
        passes = method.repeats * sum(method.cost(extent) for extent in inputs.extents)
        basis, timing = _last_timing(session, caller.project_id, inputs)
        largest = max(one.bytes for one in inputs.checkpoints)
        vectors = PARAMETER_VECTORS + (inputs.num_query if method.by_query else 0)
        return Answer(
            200,
            Estimate(
                forward_passes=passes,
                seconds=timing["seconds"] * passes / timing["forward_passes"] if timing else None,
                device=timing["device"] if timing else None,
                memory_bytes=settings.memory_bytes + vectors * largest,
                basis=basis,
            ),
        )

    return once.run(estimate)


def _last_timing(
    session: Session, project_id: str, inputs: Admitted
) -> tuple[Literal["trajectory", "architecture"] | None, dict[str, Any] | None]:
    first = inputs.runs[0].trajectory
    same = jobs.last_succeeded(session, project_id, trajectory_id=first.id)
    if (timing := _timing(same)) is not None:
        return "trajectory", timing
    like = jobs.last_succeeded(session, project_id, architecture=first.architecture)
    if (timing := _timing(like)) is not None:
        return "architecture", timing
    return None, None


def _timing(job: Job | None) -> dict[str, Any] | None:
    timing: dict[str, Any] = ((job.result if job else None) or {}).get("timing") or {}
    return timing if timing.get("forward_passes") and timing.get("seconds") is not None else None
