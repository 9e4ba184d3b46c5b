"""What a job will cost, before it is paid."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Config
from app.api.idempotency import Answer, OncePost
from app.api.jobs import evaluate, influence
from app.api.jobs.evaluate_body import EvaluateJobIn
from app.api.jobs.influence import InfluenceJobIn
from app.api.jobs.train_admission import admit
from app.api.jobs.train_body import TrainJobIn
from app.api.jobs.types import NewJob
from app.api.problems import PROBLEMS, responses
from app.catalog import config_of
from app.catalog.options import GRADIENT
from app.settings import Settings
from app.store import jobs, timings
from app.store.blobs import BlobStore
from app.store.tables import Checkpoint, Trajectory
from app.store.timings import Timing

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

CHECKPOINTS = 2  # that a worker keeps at hand
TRAINING_VECTORS = (
    6  # weights, gradients and two moments, and the weights before the step with what it carried
)
SINGLE_GRADIENTS = 3 << 28  # bytes of single samples' gradients at a time, and of what is made of them


Basis = Literal["trajectory", "architecture", "other_method"]


class Estimate(BaseModel):
    """What a job will take. `seconds` and `device` are null until a job like it has succeeded."""

    forward_passes: int = Field(
        description="Of one sample each; a gradient counts as several.", examples=[900000]
    )
    seconds: float | None = Field(examples=[31.5])
    device: str | None = Field(examples=["cpu"])
    memory_bytes: int = Field(
        description="Of the worker, at most: DIFFIN_MEMORY_BYTES, in which a chunk of samples and what the "
        "options keep beside it (Lanczos vectors, Kronecker factors, vectors of single queries, replayed "
        "states) have to fit, and the vectors as long as the parameters that the method takes anyway.",
        examples=[1074000000],
    )
    basis: Basis | None = Field(
        description="Whose last jobs `seconds` follows from: this trajectory's, or this network's, by the "
        "same method; jobs by another method (`other_method`) tell no more than the order of magnitude."
    )


@router.post(
    "/estimate", summary="Estimate a job's cost", response_model=Estimate, responses=responses(404, 409)
)
def estimate_job(body: NewJob, caller: Caller, blobs: Blobs, settings: Config, once: OncePost) -> Response:
    """Takes the same body as a job, makes the same checks, and starts nothing."""

    def estimate(session: Session) -> Answer:
        if isinstance(body, TrainJobIn):
            return Answer(200, _training(session, caller.project_id, settings, body))
        if isinstance(body, EvaluateJobIn):
            return Answer(200, _evaluation(session, blobs, caller.project_id, settings, body))
        return Answer(200, _influence(session, blobs, caller.project_id, settings, body))

    return once.run(estimate)


def _influence(
    session: Session, blobs: BlobStore, project_id: str, settings: Settings, body: InfluenceJobIn
) -> Estimate:
    inputs = influence.admitted(session, blobs, settings, project_id, body)
    method = body.method
    passes = method.repeats * sum(method.cost(extent) for extent in inputs.extents)
    memory = settings.memory_bytes + method.vectors * max(map(_parameter_bytes, inputs.checkpoints))
    memory += CHECKPOINTS * max((one.optimizer_file or {}).get("bytes", 0) for one in inputs.checkpoints)
    memory += SINGLE_GRADIENTS if method.forms_gradients else 0
    first = inputs.runs[0].trajectory
    return _estimate(
        session, project_id, body.type, passes, memory, first.id, first.architecture, method.name
    )


def _training(session: Session, project_id: str, settings: Settings, body: TrainJobIn) -> Estimate:
    asked = admit(session, project_id, body)
    n = asked.train.num_samples or 0
    at_the_end = n + (asked.query.num_samples or 0 if asked.query else 0)
    passes = GRADIENT * asked.recipe.samples(n) + at_the_end
    memory = settings.memory_bytes + TRAINING_VECTORS * _network_bytes(asked.described)
    source = asked.source.id if asked.source is not None else None
    architecture = asked.described.architecture
    return _estimate(session, project_id, body.type, passes, memory, source, architecture)


def _evaluation(
    session: Session, blobs: BlobStore, project_id: str, settings: Settings, body: EvaluateJobIn
) -> Estimate:
    asked = evaluate.admitted(session, blobs, settings, project_id, body)
    [run] = asked.inputs.runs
    memory = settings.memory_bytes + TRAINING_VECTORS * max(one.bytes for one in run.checkpoints)
    first = run.trajectory
    return _estimate(session, project_id, body.type, asked.passes, memory, first.id, first.architecture)


def _parameter_bytes(checkpoint: Checkpoint) -> int:
    """Of its tensors as a worker holds them, in float32."""
    return max(checkpoint.bytes, 4 * int(checkpoint.info.get("num_parameters", 0)))


def _network_bytes(described: Trajectory) -> int:
    """Of its parameters."""
    return 4 * config_of(described.architecture).num_parameters


def _estimate(
    session: Session,
    project_id: str,
    kind: str,
    passes: int,
    memory: int,
    trajectory_id: str | None,
    architecture: dict[str, Any],
    method: str | None = None,
) -> Estimate:
    basis, like = _like(session, project_id, kind, trajectory_id, architecture, method)
    return Estimate(
        forward_passes=passes,
        seconds=timings.seconds(like, passes) if like else None,
        device=like[0].device if like else None,
        memory_bytes=memory,
        basis=basis,
    )


def _like(
    session: Session,
    project_id: str,
    kind: str,
    trajectory_id: str | None,
    architecture: dict[str, Any],
    method: str | None,
) -> tuple[Basis | None, list[Timing]]:
    """The jobs that tell most: by the same method on the same run, on the same network; else by any."""
    on: list[tuple[Basis, dict[str, Any]]] = [("architecture", {"architecture": architecture})]
    if trajectory_id is not None:
        on.insert(0, ("trajectory", {"trajectory_id": trajectory_id}))
    tried = [(basis, where | {"method": method}) for basis, where in on]
    if method is not None:
        tried += [("other_method", where) for _, where in on]
    for basis, where in tried:
        last = jobs.last_succeeded(session, project_id, kind, timings.LAST, **where)
        if found := timings.of(last):
            return basis, found
    return None, []
