"""What goes wrong in training, in words for whoever asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from worker.influence.errors import DivergedError, SampleTooLargeError
from worker.influence.memory import out_of_memory
from worker.influence.task import Tensors
from worker.influence.training import rows_of
from worker.influence.trajectory import Data
from worker.problems import UserError
from worker.training import TrainJob


@contextmanager
def user_problems(job: TrainJob) -> Iterator[None]:
    """Turns training that diverges, and batches too large for the memory, into a `UserError`."""
    try:
        yield
    except DivergedError as diverged:
        raise UserError("diverged", _diverged(job, diverged.step)) from diverged
    except SampleTooLargeError as too_large:
        raise _too_large(job) from too_large
    except (MemoryError, RuntimeError) as problem:
        if out_of_memory(problem):
            raise _too_large(job) from problem
        raise


def _diverged(job: TrainJob, step: int) -> str:
    if step == 0:
        return (
            "The loss of the first batch is no finite number at the initial weights, before any step: look "
            "at the inputs' and targets' scale (preprocessing), and at the weights that training starts from."
        )
    rate = job.schedule.rate(min(step, job.total - 1))
    return (
        f"The training loss is no finite number at step {step} of {job.total}: training diverged. Lower the "
        f"learning rate (it was {rate:g} there), or warm it up."
    )


def _too_large(job: TrainJob) -> UserError:
    return UserError(
        "out_of_memory",
        f"A batch of {job.recipe.batch_size} samples does not fit into the worker's memory: lower "
        "recipe.batch_size, or give the worker more.",
    )


def ensure_fit(job: TrainJob, data: Data, params: Tensors, held: Tensors) -> None:
    """Takes the first batch's losses, so that what the network or the loss has against it shows by itself.

    Raises:
        UserError: the inputs do not fit the network, or the targets its outputs.
    """
    rows = rows_of(job.order, 0)
    [(inputs, targets)] = data.chunks(len(rows), rows)
    task = job.task.of_batch(len(inputs))
    with torch.no_grad():
        with fitting(inputs):
            outputs = task.call({**params, **held}, inputs, targets)
        try:
            task.losses_of(outputs, targets)
        except IndexError as problem:
            raise UserError(
                "label_out_of_range",
                f"A target of the first batch is none that the network tells of: {problem}. Its outputs have "
                f"the shape {tuple(outputs.shape[1:])}: check its number of classes against the labels.",
            ) from problem
        except (RuntimeError, ValueError) as problem:
            _unless_out_of_memory(problem)
            raise UserError(
                "shape_mismatch",
                f"The targets (shape {tuple(targets.shape[1:])}) do not fit the network's outputs (shape "
                f"{tuple(outputs.shape[1:])}): {problem}.",
            ) from problem


@contextmanager
def fitting(inputs: torch.Tensor) -> Iterator[None]:
    """Turns what a network has against `inputs` [B, …] into a `UserError`; nothing else may happen inside."""
    try:
        yield
    except IndexError as problem:
        raise UserError(
            "out_of_range",
            f"A training sample holds what the network has no place for: {problem}. Check its vocabulary "
            "and number of positions against the data set's token ids and length.",
        ) from problem
    except (RuntimeError, ValueError) as problem:
        _unless_out_of_memory(problem)
        raise UserError(
            "shape_mismatch",
            f"The network refuses the training samples (input shape {tuple(inputs.shape[1:])}): {problem}. "
            "Check the architecture's config against the data set's input shape.",
        ) from problem


def _unless_out_of_memory(problem: Exception) -> None:
    if out_of_memory(problem):
        raise problem
