"""Jobs of type `evaluate`: how far to trust the scores on a run, by retraining."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.api.admission import Admitted, admit
from app.api.jobs.evaluate_body import EvaluateJobIn, EvaluateJobOut
from app.api.jobs.resource import fields
from app.api.problems import ApiProblem
from app.catalog import DiffIn, Options
from app.catalog.options import BATCH, GRADIENT
from app.settings import Settings
from app.store import jobs
from app.store.blobs import BlobStore
from app.store.tables import Job, Trajectory
from app.store.trajectories import order_source

EXACT = DiffIn(name="diff_in", resolution="steps")  # what every verdict is seen against
ROUNDING = 2  # retrainings that tell what rounding does


class Asked(NamedTuple):
    """The inputs of a job that can run, and what it costs in forward passes of one sample."""

    inputs: Admitted
    passes: int


def admitted(
    session: Session, blobs: BlobStore, settings: Settings, project_id: str, body: EvaluateJobIn
) -> Asked:
    """The body's inputs, or the problem that keeps it from running."""

    def by(method: Options) -> Admitted:
        return admit(
            session,
            blobs,
            project_id,
            trajectories={"/trajectory_id": body.trajectory_id},
            train_id=body.train_dataset_id,
            query_id=body.query_dataset_id,
            labels=body.query.labels if body.query else None,
            indices=body.query.indices if body.query else None,
            method=method,
            memory_bytes=settings.memory_bytes,
        )

    inputs = by(EXACT)
    trajectory, n = inputs.runs[0].trajectory, inputs.train.num_samples or 0
    _check_recipe(trajectory, n)
    _check_start(inputs)
    for name in ("leave_one_out", "subsets"):
        if getattr(body, name) > n:
            detail = f"The training set holds {n} samples; {name} is {getattr(body, name)}."
            raise ApiProblem(422, "too_many_retrainings", detail, pointer=f"/{name}")
    for method in body.methods:
        by(method)
    [extent] = inputs.extents
    runs = ROUNDING + 1 + body.orders * (1 + body.leave_one_out + body.subsets)
    batch = trajectory.batch_size or (trajectory.recipe or {}).get("batch_size", BATCH)
    training = extent.steps[-1] * min(batch, n) * GRADIENT + inputs.num_query
    scoring = sum(method.cost(extent) for method in (EXACT, *body.methods))
    return Asked(inputs, runs * training + scoring)


def create(
    session: Session, blobs: BlobStore, settings: Settings, project_id: str, body: EvaluateJobIn
) -> Job:
    """Checks that the run can be trained again, fixes its checkpoints as they are now, and queues the job."""
    asked = admitted(session, blobs, settings, project_id, body)
    kept = ("leave_one_out", "subsets", "orders", "sampling")
    return jobs.create(
        session,
        type="evaluate",
        project_id=project_id,
        trajectory_ids=[body.trajectory_id],
        checkpoint_ids=[one.id for one in asked.inputs.checkpoints],
        train_dataset_id=body.train_dataset_id,
        query_dataset_id=body.query_dataset_id,
        query=body.query.model_dump(exclude_none=True) if body.query else None,
        seed=body.seed,
        name=body.name,
        notes=body.notes,
        meta=body.metadata,
        request={name: getattr(body, name) for name in kept}
        | {
            "methods": [method.model_dump() for method in body.methods],
            "labels": body.labels,
            "exact": EXACT.model_dump(),
            "forward_passes": asked.passes,
        },
    )


def shown(session: Session, job: Job, done: int | None = None) -> EvaluateJobOut:
    """The job as clients see it."""
    request = job.request or {}
    own = {name: request[name] for name in ("methods", "leave_one_out", "subsets", "orders", "sampling")}
    own |= {name: getattr(job, name) for name in ("type", "query", "checkpoint_ids")}
    return EvaluateJobOut(**fields(session, job, done) | own)


def _check_recipe(trajectory: Trajectory, n: int) -> None:
    """Raises 422 unless it is known how to train the run again."""
    if trajectory.recipe is None:
        detail = (
            f"Scores are held against retraining, and {trajectory.id} has no recipe to train it by again. "
            "Describe the run with recipe: {optimizer, batch_size, epochs or total_steps, seed} (the seed "
            "that shuffled its loader; or send its batch order)."
        )
        raise ApiProblem(422, "recipe_required", detail, pointer="/trajectory_id")
    if order_source(trajectory, n) is None:
        detail = (
            f"Which samples each batch of {trajectory.id} held is not known: its recipe has no seed, or the "
            f"training set's {n} samples are not the {trajectory.train_size} that it was trained on. Give "
            f"recipe.seed, or send the order (PUT /v1/trajectories/{trajectory.id}/batch-order)."
        )
        raise ApiProblem(422, "batch_order_required", detail, pointer="/trajectory_id")


def _check_start(inputs: Admitted) -> None:
    """Raises 422 unless training can begin where the run began."""
    trajectory, steps = inputs.runs[0].trajectory, [one.step for one in inputs.checkpoints]
    if steps[0] == 0 and len(steps) > 1:
        return
    missing = "a checkpoint after it" if steps[0] == 0 else "its initial state, the checkpoint of step 0"
    detail = f"{trajectory.id} can't be trained again from its start: send {missing}."
    raise ApiProblem(422, "initial_state_required", detail, pointer="/trajectory_id")
