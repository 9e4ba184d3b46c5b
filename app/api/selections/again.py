"""What a selection asks of training: a run by the recipe again, and an update of its last checkpoint."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from app.api.admission import extent_of
from app.api.jobs.train_admission import admit
from app.api.jobs.train_body import TrainJobIn
from app.api.problems import ApiProblem
from app.api.selections.body import DeletionIn
from app.api.suitability import measured_shapes
from app.catalog import DiffIn
from app.store import trajectories
from app.store.tables import Dataset, Job, Trajectory

CARRIED_OVER = (  # options of `diff_in` that an update follows as the scores did
    "resolution",
    "tail",
    "checkpoint_position",
    "curvature",
    "hessian_samples",
    "lanczos_steps",
    "clamp",
    "hvp",
    "epsilon",
    "parameters",
)


def verification(session: Session, job: Job) -> dict[str, Any]:
    """`training`, of a job with queries to see a change on.

    Raises:
        ApiProblem: 422.
    """
    if job.query_dataset_id is None:
        detail = "What changed is told on the job's query set, and it has none: start a job with one."
        raise ApiProblem(422, "query_required", detail, pointer="/verify")
    return training(session, job, "/verify")


def training(session: Session, job: Job, pointer: str) -> dict[str, Any]:
    """What a worker is to train to train this job's run again, as a job that trains has it.

    Args:
        pointer: to what asks for it.

    Raises:
        ApiProblem: 422 where there is no recipe, or one that can't be followed.
    """
    trajectory = session.get_one(Trajectory, job.trajectory_ids[0])
    if trajectory.recipe is None:
        detail = (
            f"That needs training again, and {trajectory.id} has no recipe. Describe the run with recipe: "
            "{optimizer, schedule, batch_size, epochs or total_steps, seed}."
        )
        raise ApiProblem(422, "recipe_required", detail, pointer=pointer)
    body = TrainJobIn(
        type="train",
        trajectory_id=trajectory.id,
        train_dataset_id=job.train_dataset_id or "",
        query_dataset_id=job.query_dataset_id,
    )
    try:
        asked = admit(session, job.project_id, body)
    except ApiProblem as refused:  # its pointers are into another body
        raise ApiProblem(
            refused.status_code, refused.code, str(refused.detail), pointer=pointer, headers=refused.headers
        ) from refused
    used = asked.rates_from or ([asked.start] if asked.start is not None else [])
    return {
        "trajectory_id": trajectory.id,
        "checkpoint_ids": [one.id for one in used],
        "recipe": asked.recipe.model_dump(),
        "checkpoints": [],
        "total_steps": asked.total,
        "start": asked.start.id if asked.start is not None else None,
    }


def update(session: Session, job: Job, body: DeletionIn, memory_bytes: int) -> dict[str, Any]:
    """{update: `diff_in` with its options, or null; no_update: why not}.

    Args:
        memory_bytes: what a worker may use.

    Raises:
        ApiProblem: 422 where one is asked for that can't be made.
    """
    if body.checkpoint is False:
        return {"update": None, "no_update": None}
    options = {name: job.method[name] for name in CARRIED_OVER if name in job.method}
    if body.resolution is not None:
        options["resolution"] = body.resolution
    method = DiffIn.model_validate({"name": "diff_in"} | options)
    why = _no_update(session, job, method, memory_bytes)
    if why is not None and body.checkpoint:
        raise ApiProblem(422, "no_update", why, pointer="/checkpoint")
    if why is not None:
        return {"update": None, "no_update": why}
    return {"update": method.model_dump(), "no_update": None}


def _no_update(session: Session, job: Job, method: DiffIn, memory_bytes: int) -> str | None:
    """Why the last checkpoint can't be updated by this method; None where it can."""
    if job.trajectory_id is None:
        return "The job is over several runs, and a checkpoint is of one: ask a job over one."
    trajectory = session.get_one(Trajectory, job.trajectory_id)
    if trajectory.task["type"] == "contrastive":
        return "Taking pairs out of groups changes the losses of those left, which an update leaves out."
    name = trajectory.optimizer.get("name", "sgd")
    rows = trajectories.in_order(session, job.checkpoint_ids)
    known = [(row.optimizer_file or {}).get("state", ()) for row in rows]
    followed = all("exp_avg_sq" in (*a, *b) for a, b in zip(known, [*known[1:], known[-1]], strict=True))
    if name != "sgd" and not followed:
        return (
            f"The run was trained with {name}, whose steps are known only where checkpoints come with an "
            "optimizer_file that holds exp_avg_sq."
        )
    n = session.get_one(Dataset, job.train_dataset_id).num_samples or 0
    heaviest = method.beside(extent_of(trajectory, rows, n, 0), measured_shapes(method, rows[-1]))
    return heaviest.too_heavy(memory_bytes)
