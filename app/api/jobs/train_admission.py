"""Whether a job that trains can run: everything that the records tell is checked before it is accepted."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from app.api.admission import check_alike, check_fits, refuse_invalid, refuse_waiting
from app.api.datasets import found_dataset
from app.api.jobs.train_body import TrainJobIn
from app.api.problems import ApiProblem
from app.api.resources import MOST_STEPS
from app.api.trajectories import found_trajectory
from app.catalog import Optimizer, Preprocessing, Recipe
from app.store.tables import Checkpoint, Dataset, Trajectory, TrajectoryFile
from app.store.trajectories import refused_with


class Training(NamedTuple):
    """What a job that can run trains.

    Attributes:
        described: the trajectory that tells of the network: the one that is named, or one that is no record.
        source: the one that is named.
        start: the checkpoint that training starts from, if any.
        rates_from: the checkpoints whose learning rates are followed; empty where the recipe has a schedule.
    """

    described: Trajectory
    source: Trajectory | None
    recipe: Recipe
    train: Dataset
    query: Dataset | None
    total: int
    kept: list[int]
    start: Checkpoint | None
    rates_from: list[Checkpoint]


def admit(session: Session, project_id: str, body: TrainJobIn) -> Training:
    """What the body asks for.

    Raises:
        ApiProblem: the first thing found wrong, with the field at fault; 404 for ids that are not there, 409
            for inputs still validating, 422 for the rest.
    """
    source = None
    if body.trajectory_id is not None:
        source = found_trajectory(session, project_id, body.trajectory_id, "/trajectory_id", lock=True)
    described = source or _described(body)
    named = {
        "/train_dataset_id": found_dataset(session, project_id, body.train_dataset_id, "/train_dataset_id")
    }
    if body.query_dataset_id is not None:
        found = found_dataset(session, project_id, body.query_dataset_id, "/query_dataset_id")
        named["/query_dataset_id"] = found
    for pointer, dataset in named.items():
        refuse_invalid(dataset, pointer)
    waiting = [(pointer, one.id) for pointer, one in named.items() if one.status == "validating"]
    if source is not None:
        waiting += _unread(source)
    refuse_waiting(waiting)
    train, query = named["/train_dataset_id"], named.get("/query_dataset_id")
    for pointer, dataset in named.items():
        check_fits(described, dataset, pointer)
    if query is not None:
        check_alike(train, query)
    recipe = _recipe(body, source)
    total = _steps(recipe, train)
    checkpoints = [one for one in source.checkpoints if one.status == "ready"] if source is not None else []
    start = next((one for one in checkpoints if one.step == 0), None) if body.seed is None else None
    rates_from = [] if recipe.schedule is not None else checkpoints
    if recipe.schedule is None:
        _check_rates(source, checkpoints, total)
    return Training(
        described, source, recipe, train, query, total, body.checkpoints.of(total), start, rates_from
    )


def _unread(source: Trajectory) -> list[tuple[str, str]]:
    """Files of the trajectory that are still being validated; raises 422 where its network was refused."""
    for file in source.files:
        if file.status == "invalid":
            error = refused_with(file)
            raise ApiProblem(422, error["code"], error["detail"], pointer="/trajectory_id")
    files: list[Checkpoint | TrajectoryFile] = [*source.files, *source.checkpoints]
    return [("/trajectory_id", one.id) for one in files if one.status == "validating"]


def _described(body: TrainJobIn) -> Trajectory:
    """A trajectory that is no record, to ask the same of as of one that is."""
    assert body.architecture is not None and body.task is not None  # noqa: S101  (or a trajectory is named)
    return Trajectory(
        architecture=body.architecture.model_dump(),
        task=body.task.model_dump(),
        preprocessing=(body.preprocessing or Preprocessing()).model_dump(),
    )


def _recipe(body: TrainJobIn, source: Trajectory | None) -> Recipe:
    """The recipe to follow, with an optimizer and a seed."""
    recipe = body.recipe
    if recipe is None:
        if source is None or source.recipe is None:
            detail = "The trajectory has no recipe: give one, with its optimizer, batch size and length."
            raise ApiProblem(422, "recipe_required", detail, pointer="/recipe")
        recipe = Recipe.model_validate(source.recipe)
    own = Optimizer() if source is None else Optimizer.model_validate(source.optimizer)
    return recipe.model_copy(update={"optimizer": recipe.optimizer or own, "seed": recipe.seed or 0})


def _steps(recipe: Recipe, train: Dataset) -> int:
    n = train.num_samples or 0
    total = recipe.steps(n)
    if total == 0:
        detail = (
            f"The training set's {n} samples give no whole batch of {recipe.batch_size}, and drop_last "
            "leaves shorter ones out: lower batch_size, or leave out drop_last."
        )
        raise ApiProblem(422, "batch_too_large", detail, pointer="/recipe/batch_size")
    if total > MOST_STEPS:
        detail = f"The recipe makes {total:,} steps of {n} samples; {MOST_STEPS:,} at most."
        raise ApiProblem(422, "too_many_steps", detail, pointer="/recipe")
    warmup = getattr(recipe.schedule, "warmup_steps", 0)
    if warmup > total:
        detail = (
            f"The warm-up takes {warmup:,} steps, but the run has {total:,}: the learning rate would never "
            "be reached. Lower warmup_steps, or train longer."
        )
        raise ApiProblem(422, "warmup_too_long", detail, pointer="/recipe/schedule/warmup_steps")
    return total


def _check_rates(source: Trajectory | None, checkpoints: list[Checkpoint], total: int) -> None:
    """Raises 422 unless the checkpoints tell the learning rate of each step."""
    last = checkpoints[-1].step if checkpoints else 0
    known = max(last, (source.total_steps or 0) if source is not None and last else 0)
    if known < total:
        detail = (
            "The recipe has no schedule, and the trajectory's checkpoints tell the learning rates of "
            f"{known} steps; it makes {total}. Give recipe.schedule."
        )
        raise ApiProblem(422, "schedule_required", detail, pointer="/recipe/schedule")
