"""Whether an influence job can run: everything that the records tell is checked before it is accepted.

What only the tensors tell (missing, extra, misshapen) was told when the checkpoint was validated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from app.api.datasets import found_dataset
from app.api.problems import ApiProblem
from app.api.resources import RETRY_AFTER
from app.api.suitability import check_loss, check_meaning, check_memory, check_method, check_order
from app.api.trajectories import found_trajectory, refuse_with_file
from app.catalog import Extent, Options, Preprocessing, Task, config_of, image_shape
from app.catalog.options import BATCH
from app.store.blobs import BlobStore
from app.store.datasets import Arrays
from app.store.tables import BatchOrder, Checkpoint, Dataset, Trajectory, TrajectoryFile
from app.store.trajectories import order_source

SHOWN = 40  # names of labels


class Run(NamedTuple):
    """One trajectory of a job; checkpoints by step."""

    trajectory: Trajectory
    checkpoints: list[Checkpoint]
    pointer: str


class Admitted(NamedTuple):
    """The inputs of a job that can run."""

    runs: list[Run]
    train: Dataset
    query: Dataset | None
    num_query: int

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Of one trajectory after the other, each by step."""
        return [one for run in self.runs for one in run.checkpoints]

    @property
    def extents(self) -> list[Extent]:
        """How much there is to do for each trajectory."""
        n = self.train.num_samples or 0
        return [extent_of(run.trajectory, run.checkpoints, n, self.num_query) for run in self.runs]


def extent_of(
    trajectory: Trajectory, checkpoints: Sequence[Checkpoint], num_train: int, num_query: int
) -> Extent:
    """How much there is to do for a trajectory over these checkpoints, by step."""
    return Extent(
        num_train=num_train,
        num_query=num_query,
        steps=tuple(one.step for one in checkpoints),
        batch_size=trajectory.batch_size or BATCH,
        ordered=order_source(trajectory, num_train) is not None,
    )


def admit(
    session: Session,
    blobs: BlobStore,
    project_id: str,
    *,
    trajectories: Mapping[str, str],
    train_id: str,
    query_id: str | None,
    labels: Sequence[int | str] | None,
    indices: Sequence[int] | None,
    method: Options,
    memory_bytes: int,
) -> Admitted:
    """The job's inputs.

    Args:
        trajectories: ids by the field that names each.
        labels, indices: the part of the query data set that is taken; all of it when both are None.
        memory_bytes: what a worker may use.

    Raises:
        ApiProblem: the first thing found wrong, with the field at fault; 404 for ids that are not there, 409
            for inputs still validating, 422 for the rest.
    """
    # Locked in one order, so that two jobs over the same trajectories never wait for each other.
    locked = {
        pointer: found_trajectory(session, project_id, one, pointer, lock=True)
        for pointer, one in sorted(trajectories.items(), key=lambda item: item[1])
    }
    train = found_dataset(session, project_id, train_id, "/train_dataset_id")
    query = (
        found_dataset(session, project_id, query_id, "/query_dataset_id") if query_id is not None else None
    )
    if query is None and (method.needs_query or labels is not None or indices is not None):
        detail = "Samples are scored by what they do to a query data set: give its query_dataset_id."
        raise ApiProblem(422, "query_required", detail, pointer="/query_dataset_id")
    named = {"/train_dataset_id": train} | ({"/query_dataset_id": query} if query else {})
    for pointer, dataset in named.items():
        refuse_invalid(dataset, pointer)
    runs = [Run(locked[pointer], _sound(locked[pointer], pointer), pointer) for pointer in trajectories]
    _check_one_kind(runs)
    _check_ready(runs, named, method)
    for run in runs:
        _check_steps(run)
        last, n = run.checkpoints[-1].step, train.num_samples or 0
        check_order(run.trajectory, last, n, method, run.pointer)
    for pointer, dataset in named.items():
        check_fits(runs[0].trajectory, dataset, pointer)
    if query is not None:
        check_meaning(train, query)
        check_alike(train, query)
    for run in runs:
        _check_train_size(run, train)
    num_query = _count(Arrays(session, blobs, query), labels, indices) if query is not None else 0
    admitted = Admitted(runs, train, query, num_query)
    check_method(method, admitted.extents, admitted.checkpoints)
    check_loss(method, runs[0].trajectory)
    check_memory(method, admitted.extents, admitted.checkpoints, memory_bytes)
    return admitted


def refuse_invalid(dataset: Dataset, pointer: str) -> None:
    if dataset.status == "invalid":
        why = (dataset.error or {}).get("detail", "")
        raise ApiProblem(
            422, "invalid_dataset", f"The data set {dataset.id} was refused: {why}", pointer=pointer
        )


def _sound(trajectory: Trajectory, pointer: str) -> list[Checkpoint]:
    """The checkpoints by step. One that was refused stops the job, unless another took its step; so does a
    file that should have told of the network."""
    refuse_with_file(trajectory, pointer)
    sound = [one for one in trajectory.checkpoints if one.status != "invalid"]
    steps = {one.step for one in sound}
    for one in trajectory.checkpoints:
        if one.status == "invalid" and one.step not in steps:
            why = (one.error or {}).get("detail", "")
            detail = (
                f"The checkpoint {one.id} at step {one.step} was refused: {why} Delete it, or send a sound "
                "one for its step."
            )
            raise ApiProblem(422, "invalid_checkpoint", detail, pointer=pointer)
    if not sound:
        detail = f"The trajectory {trajectory.id} has no checkpoint: send at least one."
        raise ApiProblem(422, "no_checkpoints", detail, pointer=pointer)
    return sound


def _check_one_kind(runs: list[Run]) -> None:
    """Scores of one network, task and preprocessing are averaged, and no others."""
    first = runs[0].trajectory
    for run in runs[1:]:
        for what in ("architecture", "task", "preprocessing"):
            if getattr(run.trajectory, what) != getattr(first, what):
                detail = (
                    f"The trajectories {first.id} and {run.trajectory.id} differ in their {what}; only runs "
                    "of one network, task and preprocessing can be averaged."
                )
                raise ApiProblem(422, "trajectories_differ", detail, pointer=run.pointer)


def _check_ready(runs: list[Run], named: dict[str, Dataset], method: Options) -> None:
    waiting = [(pointer, one.id) for pointer, one in named.items() if one.status == "validating"]
    for run in runs:
        order = run.trajectory.batch_order if method.needs_order else None
        files: list[Checkpoint | BatchOrder | TrajectoryFile] = [*run.trajectory.files, *run.checkpoints]
        files += [order] if order else []
        waiting += [(run.pointer, one.id) for one in files if one.status == "validating"]
    refuse_waiting(waiting)


def refuse_waiting(waiting: Sequence[tuple[str, str]]) -> None:
    """Raises 409 where inputs, (pointer, id) each, are still being validated."""
    if waiting:
        detail = f"Still being validated: {', '.join(one for _, one in waiting[:5])}; ask again in a moment."
        errors = [(pointer, f"{one} is being validated") for pointer, one in waiting]
        raise ApiProblem(409, "input_not_ready", detail, errors=errors, headers=RETRY_AFTER)


def _check_steps(run: Run) -> None:
    steps = [0, *(one.step for one in run.checkpoints)]
    for (before, step), one in zip(pairwise(steps), run.checkpoints, strict=True):
        if one.learning_rates is not None and len(one.learning_rates) != step - before:
            detail = (
                f"The checkpoint {one.id} at step {step} has {len(one.learning_rates)} learning_rates; its "
                f"segment, from step {before}, has {step - before} steps. Is a checkpoint missing?"
            )
            raise ApiProblem(422, "learning_rates_mismatch", detail, pointer=run.pointer)
    total = run.trajectory.total_steps
    if total is not None and total < steps[-1]:
        detail = f"total_steps is {total}, but the last checkpoint is at step {steps[-1]}."
        raise ApiProblem(422, "total_steps_too_small", detail, pointer=run.pointer)


def _check_train_size(run: Run, train: Dataset) -> None:
    size = run.trajectory.train_size
    if size is not None and size < (train.num_samples or 0):
        detail = (
            f"The trajectory's train_size is {size}, but the training set holds {train.num_samples} samples: "
            "score the set (or a part of the set) that the run was trained on."
        )
        raise ApiProblem(422, "train_size_too_small", detail, pointer="/train_dataset_id")


def check_fits(trajectory: Trajectory, dataset: Dataset, pointer: str) -> None:
    """Whether the network takes the data set's inputs and has outputs for its targets."""
    config = config_of(trajectory.architecture)
    given, target = dataset.info["input"], dataset.info["target"]
    shape, dtype = tuple(given["shape"]), given["dtype"]
    preprocessing = Preprocessing.model_validate(trajectory.preprocessing)
    wrong = config.check_input(shape, dtype, given.get("max"), given.get("min")) or preprocessing.check_input(
        config.inputs, shape, dtype
    )
    if wrong:
        raise ApiProblem(422, "shape_mismatch", f"The data set {dataset.id}: {wrong}", pointer=pointer)
    task = Task.model_validate(trajectory.task)
    if task.type != "causal_lm" and target.get("taken_from"):
        detail = (
            f"The data set {dataset.id} has no targets, which {task.type} wants: send it with them. Token "
            "ids alone are for causal_lm."
        )
        raise ApiProblem(422, "no_targets", detail, pointer=pointer)
    wrong = config.check_targets(
        task, tuple(target["shape"]), target["dtype"], target.get("min"), target.get("max")
    )
    if task.type == "causal_lm" and not wrong and tuple(target["shape"]) != shape:
        wrong = f"targets are {target['shape'][0]} tokens long, inputs {shape[0]}: give the tokens again."
    if wrong:
        code = "shape_mismatch" if task.type in ("regression", "contrastive") else "label_out_of_range"
        raise ApiProblem(422, code, f"The data set {dataset.id}: {wrong}", pointer=pointer)


def check_alike(train: Dataset, query: Dataset) -> None:
    """One shape for both; an image counts as its channels, height and width, however it is stored."""
    ours, theirs = (
        image_shape(tuple(info["shape"]), info["dtype"]) or tuple(info["shape"])
        for info in (train.info["input"], query.info["input"])
    )
    if ours != theirs:
        detail = (
            f"Query samples are {list(theirs)}, training samples {list(ours)}; they must be of one shape."
        )
        raise ApiProblem(422, "shape_mismatch", detail, pointer="/query_dataset_id")


def _count(arrays: Arrays, labels: Sequence[int | str] | None, indices: Sequence[int] | None) -> int:
    """How many query samples are taken."""
    if indices is not None:
        beyond = [index for index in indices if index >= len(arrays)]
        if beyond:
            detail = f"The query data set's samples are 0 to {len(arrays) - 1}; {beyond[:5]} are beyond."
            raise ApiProblem(422, "index_out_of_range", detail, pointer="/query/indices")
        return len(indices)
    if labels is None:
        return len(arrays)
    unknown = [one for one in labels if isinstance(one, str) and one not in (arrays.classes or ())]
    if unknown:
        raise _unknown_labels(unknown, arrays.classes)
    found = (
        np.isin(np.asarray(arrays.targets), arrays.numbers(labels))
        if arrays.targets.ndim == 1
        else np.zeros(1)
    )
    if not found.any():
        detail = f"No query sample has any of the labels {list(labels)[:20]}."
        raise ApiProblem(422, "empty_query", detail, pointer="/query/labels")
    return int(found.sum())


def _unknown_labels(unknown: Sequence[str], classes: Sequence[str] | None) -> ApiProblem:
    shown = ", ".join(map(repr, unknown[:5]))
    if classes is None:
        detail = f"The query data set's labels have no names, so that {shown} is none: give numbers."
    else:
        known = ", ".join(map(repr, classes[:SHOWN])) + (", …" if len(classes) > SHOWN else "")
        detail = f"No label of the query data set is called {shown}; its labels: {known}."
    return ApiProblem(422, "unknown_label", detail, pointer="/query/labels")
