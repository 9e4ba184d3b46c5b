"""Trajectories: what was trained and how, and the checkpoints it left (uploaded in checkpoints.py)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Db
from app.api.idempotency import Answer, OncePost
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, not_found, responses
from app.api.resources import (
    INT64,
    MOST_STEPS,
    NO_NUL,
    RETRY_AFTER,
    Body,
    Edit,
    GivenName,
    Metadata,
    Notes,
    deleting,
    named,
    refuse_use,
    tagged,
)
from app.catalog import Architecture, Optimizer, Preprocessing, Recipe, Task
from app.store import jobs, pages, trajectories
from app.store.tables import BatchOrder, Checkpoint, Trajectory

router = APIRouter(prefix="/v1/trajectories", tags=["trajectories"], responses=PROBLEMS)

TrajectoryId = Annotated[str, Path(pattern=NO_NUL, examples=["tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]

EXAMPLE: dict[str, Any] = {
    "name": "mnist-cnn run 7",
    "architecture": {"name": "cnn", "config": {"in_channels": 1, "num_classes": 10}},
    "task": {"type": "classification", "loss": "cross_entropy"},
    "preprocessing": {"scale": 0.00392156862745098, "mean": [0.1307], "std": [0.3081]},
    "optimizer": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0},
    "batch_size": 64,
    "train_size": 60000,
    "total_steps": 4690,
}


class TrajectoryIn(Body):
    """A training run."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: GivenName
    architecture: Architecture
    task: Task
    preprocessing: Preprocessing = Preprocessing()
    optimizer: Optimizer = Optimizer()
    batch_size: int | None = Field(None, ge=1, le=2**31 - 1, description="Samples a step.")
    train_size: int | None = Field(
        None,
        ge=1,
        le=INT64,
        description="N of the formulas; the length of the job's training set when left out.",
    )
    total_steps: int | None = Field(
        None, ge=1, le=MOST_STEPS, description="Steps of the run; the last checkpoint's step when left out."
    )
    recipe: Recipe | None = Field(None, description="How to train it again; jobs that retrain ask for it.")
    notes: Notes = ""
    metadata: Metadata = Field({})


class CheckpointOut(BaseModel):
    """The state after `step` optimizer steps, with the learning rate of the steps since the one before."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ck_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "trajectory_id": "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "step": 938,
                    "learning_rate": 0.1,
                    "learning_rates": None,
                    "status": "ready",
                    "filename": "938.safetensors",
                    "bytes": 39880,
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "optimizer_file": None,
                    "created_at": "2026-11-23T21:00:00Z",
                    "error": None,
                }
            ]
        }
    )

    id: str
    trajectory_id: str
    step: int
    learning_rate: float | None
    learning_rates: list[float] | None
    status: Literal["validating", "ready", "invalid"]
    filename: str
    bytes: int
    sha256: str
    optimizer_file: dict[str, Any] | None = Field(
        description="What the optimizer carried there: {filename, bytes, sha256, state}; `state` names it."
    )
    created_at: datetime
    error: dict[str, Any] | None

    @classmethod
    def of(cls, row: Checkpoint) -> CheckpointOut:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class BatchOrderOut(BaseModel):
    """Which samples each step's batch held; `steps` and `batch` are known once it is ready."""

    status: Literal["validating", "ready", "invalid"]
    filename: str = Field(examples=["order.npy"])
    bytes: int
    sha256: str
    steps: int | None = Field(examples=[4690])
    batch: int | None = Field(examples=[64])
    created_at: datetime
    error: dict[str, Any] | None

    @classmethod
    def of(cls, row: BatchOrder) -> BatchOrderOut:
        given = cls.model_fields.keys() - {"steps", "batch"}
        shape = {name: row.info.get(name) for name in ("steps", "batch")}
        return cls(**{name: getattr(row, name) for name in given}, **shape)


class TrajectoryOut(BaseModel):
    """A training run as it is kept, defaults filled in."""

    id: str
    name: str
    notes: str
    metadata: dict[str, str]
    created_at: datetime
    architecture: dict[str, Any] = Field(examples=[EXAMPLE["architecture"]])
    task: dict[str, Any] = Field(examples=[EXAMPLE["task"]])
    preprocessing: dict[str, Any] = Field(examples=[EXAMPLE["preprocessing"]])
    optimizer: dict[str, Any] = Field(examples=[EXAMPLE["optimizer"]])
    batch_size: int | None = Field(examples=[64])
    train_size: int | None = Field(examples=[60000])
    total_steps: int | None = Field(examples=[4690])
    recipe: dict[str, Any] | None


class TrajectoryDetail(TrajectoryOut):
    """A training run with its checkpoints by step."""

    checkpoints: list[CheckpointOut]
    batch_order: BatchOrderOut | None


def _fields(row: Trajectory) -> dict[str, Any]:
    names = TrajectoryOut.model_fields.keys() - {"id", "name", "notes", "metadata", "created_at"}
    return named(row) | {name: getattr(row, name) for name in names}


def _detail(row: Trajectory) -> TrajectoryDetail:
    order = row.batch_order
    return TrajectoryDetail(
        **_fields(row),
        checkpoints=[CheckpointOut.of(one) for one in row.checkpoints],
        batch_order=BatchOrderOut.of(order) if order else None,
    )


@router.post(
    "",
    status_code=201,
    summary="Describe a training run",
    response_model=TrajectoryDetail,
    responses=responses(409),
)
def create_trajectory(body: TrajectoryIn, caller: Caller, once: OncePost) -> Response:
    """Names the network, the task and how it was trained; its checkpoints follow one by one."""

    def create(session: Session) -> Answer:
        values = body.model_dump(exclude={"metadata"})
        row = trajectories.create(session, project_id=caller.project_id, meta=body.metadata, **values)
        session.flush()
        return Answer(201, _detail(row), {"Location": f"/v1/trajectories/{row.id}"})

    return once.run(create)


@router.get("", summary="List trajectories, newest first")
def list_trajectories(caller: Caller, database: Db, paging: PageOf) -> Page[TrajectoryOut]:
    """Without their checkpoints."""
    binding = "trajectories", caller.project_id
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, Trajectory, caller.project_id, paging.limit + 1, after=after)
    rows, cursor = paging.cut(found, pages.position, *binding)
    return Page(data=[TrajectoryOut(**_fields(row)) for row in rows], next_cursor=cursor)


@router.get(
    "/{trajectory_id}",
    summary="One trajectory with its checkpoints",
    response_model=TrajectoryDetail,
    responses=responses(404),
)
def get_trajectory(request: Request, trajectory_id: TrajectoryId, caller: Caller, database: Db) -> Response:
    """With an `ETag`; while a checkpoint or the batch order is validating, with `Retry-After`."""
    with database.snapshot() as session:
        body = _detail(found_trajectory(session, caller.project_id, trajectory_id))
    files: list[CheckpointOut | BatchOrderOut] = [*body.checkpoints]
    files += [body.batch_order] if body.batch_order else []
    validating = any(one.status == "validating" for one in files)
    return tagged(request, body, headers=RETRY_AFTER if validating else None)


@router.patch("/{trajectory_id}", summary="Rename a trajectory", responses=responses(404))
def edit_trajectory(
    trajectory_id: TrajectoryId, edit: Edit, caller: Caller, database: Db
) -> TrajectoryDetail:
    with database.transaction() as session:
        trajectory = found_trajectory(session, caller.project_id, trajectory_id)
        edit.apply(trajectory)
        return _detail(trajectory)


@router.delete(
    "/{trajectory_id}",
    status_code=204,
    summary="Delete a trajectory and its checkpoints",
    responses=responses(404, 409),
)
def delete_trajectory(trajectory_id: TrajectoryId, caller: Caller, database: Db, blobs: Blobs) -> None:
    """Refused with `in_use` while a job names it."""
    with deleting(f"The trajectory {trajectory_id}"), database.transaction() as session:
        trajectory = found_trajectory(session, caller.project_id, trajectory_id, lock=True)
        refuse_use(f"The trajectory {trajectory_id}", jobs.using(session, trajectory_id=trajectory_id))
        trajectories.delete(session, blobs, trajectory)


def found_trajectory(
    session: Session, project_id: str, trajectory_id: str, pointer: str | None = None, *, lock: bool = False
) -> Trajectory:
    """The trajectory, or 404."""
    find = trajectories.locked if lock else trajectories.get
    trajectory = find(session, project_id, trajectory_id)
    if trajectory is None:
        raise not_found("trajectory", trajectory_id, pointer)
    return trajectory
