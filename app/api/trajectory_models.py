"""Trajectories as they are asked for and answered: the run, its checkpoints and its other files."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.api.resources import INT64, MOST_STEPS, Body, GivenName, Id, Metadata, Notes, named
from app.catalog import ONNX, Architecture, Optimizer, Preprocessing, Recipe, Task, check_task, task_of
from app.catalog.base import refusal
from app.store import trajectories
from app.store.tables import BatchOrder, Checkpoint, Trajectory, TrajectoryFile

Status = Literal["validating", "ready", "invalid"]

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

REFUSED: dict[str, Any] = {
    "type": "https://diffin.dev/problems/invalid_architecture",
    "title": "The trajectory's architecture file was refused",
    "code": "invalid_architecture",
    "detail": "The trajectory's architecture file was refused, so that its checkpoints cannot be checked: "
    "The file is no ONNX graph that can be read. Describe the run as another trajectory, with a sound file.",
    "fault": "user",
    "errors": [],
}


class TrajectoryIn(Body):
    """A training run."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: GivenName
    architecture: Architecture
    architecture_upload_id: Id | None = Field(
        None,
        description="A complete upload of the network's graph (ONNX). `architecture: {onnx_upload_id: …}` "
        "says the same.",
    )
    base_upload_id: Id | None = Field(None, description="Likewise of the weights that `lora` adapts.")
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

    @model_validator(mode="before")
    @classmethod
    def _from_upload(cls, given: Any) -> Any:
        """`architecture: {"onnx_upload_id": …}` is the architecture `onnx`, its file an upload."""
        network = given.get("architecture") if isinstance(given, dict) else None
        if not isinstance(network, dict) or "onnx_upload_id" not in network:
            return given
        if "architecture_upload_id" in given:
            raise refusal("architecture_upload_id and onnx_upload_id are the same: give one of them.")
        rest = {name: value for name, value in network.items() if name != "onnx_upload_id"}
        told = {"architecture": {"name": ONNX} | rest, "architecture_upload_id": network["onnx_upload_id"]}
        return given | told

    @field_validator("task")
    @classmethod
    def _of_the_network(cls, task: Task, info: ValidationInfo) -> Task:
        network = info.data.get("architecture")
        if network is not None and (wrong := check_task(network.name, task)):
            raise refusal(wrong)
        return task

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        self.task = task_of(self.architecture, self.task, self.batch_size)
        return self


class CheckpointOut(BaseModel):
    """The state after `step` optimizer steps, with the learning rate of the steps since the one before."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ck_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "name": "",
                    "notes": "",
                    "metadata": {},
                    "trajectory_id": "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "step": 938,
                    "learning_rate": 0.1,
                    "learning_rates": None,
                    "status": "ready",
                    "filename": "938.safetensors",
                    "uri": None,
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
    name: str
    notes: str
    metadata: dict[str, str]
    trajectory_id: str
    step: int
    learning_rate: float | None
    learning_rates: list[float] | None
    status: Status
    filename: str
    uri: str | None = Field(None, description="Where the file was fetched from, if it was named by `uri`.")
    bytes: int | None = Field(description="Null, as `sha256`, until a worker has fetched it from its `uri`.")
    sha256: str | None
    optimizer_file: dict[str, Any] | None = Field(
        description="What the optimizer carried there: {filename, bytes, sha256, state, uri}; `state` names "
        "it."
    )
    created_at: datetime
    error: dict[str, Any] | None

    @classmethod
    def of(cls, row: Checkpoint) -> CheckpointOut:
        names = cls.model_fields.keys() - {"metadata"}
        told = {name: getattr(row, name) for name in names} | {"metadata": row.meta}
        return cls(**told | ({} if row.sha256 else {"bytes": None, "sha256": None}))


class BatchOrderOut(BaseModel):
    """Which samples each step's batch held; `steps` and `batch` are known once it is ready."""

    status: Status
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


class TrajectoryFileOut(BaseModel):
    """A file that tells what the network is. Checkpoints are validated once all of them are ready."""

    role: str = Field(
        description="`architecture`: the network's graph; `base`: the weights below an adapter.",
        examples=["architecture"],
    )
    status: Status
    filename: str = Field(examples=["network.onnx"])
    bytes: int
    sha256: str
    created_at: datetime
    error: dict[str, Any] | None

    @classmethod
    def of(cls, row: TrajectoryFile) -> TrajectoryFileOut:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


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
    status: Status = Field(
        description="Of its network: `validating` until a worker has read the file that tells of it (a "
        "graph, the weights below an adapter), if there is one; `invalid` where it was refused, and `error` "
        "says why: no job can name the trajectory then. Checkpoints and the batch order have their own.",
        examples=["ready"],
    )
    error: dict[str, Any] | None = Field(examples=[None, REFUSED])


class TrajectoryDetail(TrajectoryOut):
    """A training run with its checkpoints by step, and its other files."""

    checkpoints: list[CheckpointOut]
    batch_order: BatchOrderOut | None
    files: list[TrajectoryFileOut]

    @property
    def validating(self) -> bool:
        """Whether any of its files is."""
        parts: list[CheckpointOut | BatchOrderOut | TrajectoryFileOut] = [*self.checkpoints, *self.files]
        parts += [self.batch_order] if self.batch_order else []
        return any(one.status == "validating" for one in parts)


def told(row: Trajectory) -> dict[str, Any]:
    """The fields of `TrajectoryOut`."""
    names = TrajectoryOut.model_fields.keys() - {"id", "name", "notes", "metadata", "created_at"}
    status, error = trajectories.verdict(row)
    fields = {name: getattr(row, name) for name in names - {"status", "error"}}
    return named(row) | fields | {"status": status, "error": error}


def detailed(row: Trajectory) -> TrajectoryDetail:
    order = row.batch_order
    return TrajectoryDetail(
        **told(row),
        checkpoints=[CheckpointOut.of(one) for one in row.checkpoints],
        batch_order=BatchOrderOut.of(order) if order else None,
        files=[TrajectoryFileOut.of(one) for one in row.files],
    )
