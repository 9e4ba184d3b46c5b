"""What a job of type `train` is asked, and shown as."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from app.api.jobs.resource import RUNNING, JobFields, JobIn
from app.api.problems import ApiProblem
from app.api.resources import INT64, MOST_STEPS, Body, Id
from app.catalog import ONNX, Architecture, Preprocessing, Recipe, Task, check_task, task_of
from app.catalog.base import refusal

MOST_KEPT = 5_000  # checkpoints of one run: each is a file or two, and a row
EXAMPLE: dict[str, Any] = {
    "type": "train",
    "architecture": {"name": "mlp", "config": {"in_features": 64, "hidden": [32], "num_classes": 10}},
    "task": {"type": "classification", "loss": "cross_entropy"},
    "train_dataset_id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "recipe": {
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "schedule": {"name": "cosine", "learning_rate": 0.1},
        "batch_size": 64,
        "epochs": 10,
        "seed": 0,
    },
    "checkpoints": {"count": 10},
    "seed": 0,
    "name": "digits, from nothing",
}
AGAIN: dict[str, Any] = {
    "type": "train",
    "trajectory_id": "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "train_dataset_id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "query_dataset_id": "ds_0197f4e7-1a2b-7c5e-9c4f-3f1f2d1f6a52",
    "checkpoints": {"every": 1},
    "name": "run 7 once more, every state kept",
}


class Kept(Body):
    """Which states become checkpoints, beside the first and the last: `count` of them at even distances,
    `every` so many steps (1: each single one), or after these `steps`.
    """

    count: int | None = Field(None, ge=1, le=MOST_KEPT)
    every: int | None = Field(None, ge=1, le=MOST_STEPS)
    steps: list[Annotated[int, Field(ge=0, le=MOST_STEPS)]] | None = Field(
        None, min_length=1, max_length=MOST_KEPT
    )

    @model_validator(mode="before")
    @classmethod
    def _an_object(cls, given: Any) -> Any:
        if not isinstance(given, dict | cls):
            raise refusal(
                'give an object that says which states to keep: {"count": 10}, {"every": 100} or '
                '{"steps": [50, 200]}.'
            )
        return given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.count, self.every, self.steps)) != 1:
            raise refusal("give count, every or steps, one of them.")
        return self

    def of(self, total: int) -> list[int]:
        """The steps after which a run of `total` steps is kept, ascending, 0 and `total` among them.

        Raises:
            ApiProblem: 422 for steps after the end, or too many checkpoints.
        """
        if self.steps is not None and max(self.steps) > total:
            detail = f"checkpoints.steps goes up to {max(self.steps)}, but the run has {total} steps."
            raise ApiProblem(422, "step_out_of_range", detail, pointer="/checkpoints/steps")
        if self.every is not None and total // self.every > MOST_KEPT:
            detail = (
                f"Every {self.every} of {total} steps are {total // self.every} checkpoints; {MOST_KEPT:,} "
                "at most. Keep fewer: jobs with resolution steps replay the states between them."
            )
            raise ApiProblem(422, "too_many_checkpoints", detail, pointer="/checkpoints/every")
        if self.count is not None:
            wanted = [round(total * k / self.count) for k in range(1, self.count + 1)]
        else:
            wanted = list(range(0, total, self.every)) if self.every is not None else self.steps or []
        return sorted({0, *wanted, total})


class TrainJobIn(JobIn):
    """A network, data and a recipe; or a trajectory whose network and recipe they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE, AGAIN]})

    type: Literal["train"]
    trajectory_id: Id | None = Field(
        None, description="Train its network for its task, by its recipe unless `recipe` is given."
    )
    architecture: Architecture | None = Field(
        None, description="Any but a graph, which comes with a trajectory: name that."
    )
    task: Task | None = None
    preprocessing: Preprocessing | None = None
    train_dataset_id: Id
    query_dataset_id: Id | None = Field(
        None, description="To tell loss and accuracy on it at the end as well."
    )
    recipe: Recipe | None = Field(
        None,
        description="Its `seed` draws the batches (null: 0). Without a schedule, the learning rates of the "
        "trajectory's checkpoints are followed.",
    )
    checkpoints: Kept = Kept(count=10)
    seed: int | None = Field(
        None,
        ge=0,
        le=INT64,
        description="Draws the initial weights, but of a graph, which has its own. null: the trajectory's "
        "checkpoint of step 0 is taken, or else drawn by 0.",
    )

    @field_validator("architecture")
    @classmethod
    def _without_a_file(cls, architecture: Architecture | None) -> Architecture | None:
        if architecture is not None and architecture.name == ONNX:
            raise refusal(
                "a graph comes with a trajectory: send it there (POST /v1/trajectories, part "
                "architecture_file), and name its trajectory_id here."
            )
        return architecture

    @field_validator("task")
    @classmethod
    def _of_the_network(cls, task: Task | None, info: ValidationInfo) -> Task | None:
        network = info.data.get("architecture")
        if network is not None and task is not None and (wrong := check_task(network.name, task)):
            raise refusal(wrong)
        return task

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        own = {"architecture": self.architecture, "task": self.task}
        if self.trajectory_id is not None:
            given = [name for name, value in own.items() if value] + ["preprocessing"] * bool(
                self.preprocessing
            )
            if given:
                raise refusal(f"the trajectory tells {', '.join(given)}: leave it out, or trajectory_id.")
            return self
        missing = [name for name, value in own.items() if value is None]
        if missing:
            raise refusal(f"give {' and '.join(missing)}, or the trajectory_id of a run of the network.")
        if self.recipe is None or self.recipe.schedule is None:
            raise refusal("give a recipe with a schedule: without a trajectory nothing else tells the rates.")
        if self.task is not None:
            self.task = task_of(self.architecture, self.task, self.recipe.batch_size)
        return self


class TrainJobOut(JobFields):
    """A job that trains. Its `result` names the trajectory it recorded; `trajectory_id` is the one it was
    told by, if any. `checkpoints` are the steps after which states are kept.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **EXAMPLE,
                    "trajectory_id": None,
                    "query_dataset_id": None,
                    "metadata": {},
                    "checkpoints": [0, 29, 58],
                    "total_steps": 290,
                    **RUNNING,
                    "progress": {"completed": 58, "total": 290, "unit": "steps", "message": "training"},
                    "status": "succeeded",
                    "result": {
                        "trajectory_id": "tr_0197f4e9-3c1d-7c5e-9c4f-3f1f2d1f6a52",
                        "train": {"loss": 0.031, "accuracy": 0.995},
                        "query": None,
                        "curve": [{"step": 1, "loss": 2.31}, {"step": 2, "loss": 2.18}],
                        "warnings": [],
                    },
                }
            ]
        }
    )

    type: Literal["train"]
    architecture: dict[str, Any]
    task: dict[str, Any]
    preprocessing: dict[str, Any]
    recipe: dict[str, Any] = Field(description="As it is followed, defaults filled in.")
    checkpoints: list[int]
    total_steps: int
