"""What goes wrong in training is told as what it is."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

from app.catalog import Recipe
from app.store import tables
from worker.influence.errors import DivergedError
from worker.influence.task import Loss, Task, Tensors
from worker.influence.training import State, take_step
from worker.influence.trajectory import Arrays, Schedule
from worker.problems import UserError
from worker.train_problems import ensure_fit, user_problems
from worker.training import TrainJob

NOTHING = cast(Any, None)
STEPS = 3
INPUTS, LABELS = torch.ones(4, 5), torch.tensor([0, 1, 2, 1])


def schedule(optimizer: str = "sgd", rate: float = 0.1, beta: float = 0.9) -> Schedule:
    return Schedule(
        (STEPS,), ((rate,) * STEPS,), STEPS, 4, 0.0, 0.0, optimizer=optimizer, betas=(beta, 0.999)
    )


def job(network: nn.Module, loss: Loss = "cross_entropy") -> TrainJob:
    return TrainJob(
        id="job_1",
        described=tables.Trajectory(),
        recipe=Recipe(batch_size=4, total_steps=STEPS),
        task=Task(network, loss),
        trained=[name for name, _ in network.named_parameters()],
        held=[],
        schedule=schedule(),
        order=torch.arange(4).repeat(STEPS, 1),
        kept=frozenset(),
        start=None,
        train=NOTHING,
        query=None,
        preprocessing=NOTHING,
        device=torch.device("cpu"),
    )


def params_of(network: nn.Module) -> Tensors:
    return {name: t.detach() for name, t in network.named_parameters()}


@pytest.mark.parametrize(
    ("network", "inputs", "targets", "loss", "code", "words"),
    [
        (nn.Linear(6, 3), INPUTS, LABELS, "cross_entropy", "shape_mismatch", "refuses the training samples"),
        (nn.Linear(5, 2), INPUTS, LABELS, "cross_entropy", "label_out_of_range", "shape (2,)"),
        (
            nn.Linear(5, 3),
            INPUTS,
            torch.ones(4, 2),
            "mse",
            "shape_mismatch",
            "do not fit the network's outputs",
        ),
        (nn.Embedding(4, 3), LABELS + 2, LABELS, "cross_entropy", "out_of_range", "vocabulary"),
    ],
)
def test_samples_that_do_not_fit_show_before_the_first_step(
    network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, loss: Loss, code: str, words: str
) -> None:
    with pytest.raises(UserError) as caught:
        ensure_fit(job(network, loss), Arrays(inputs, targets), params_of(network), {})
    assert caught.value.problem["code"] == code
    assert words in caught.value.problem["detail"]


def test_samples_that_fit_pass() -> None:
    network = nn.Linear(5, 3)
    ensure_fit(job(network), Arrays(INPUTS, LABELS), params_of(network), {})


def test_a_step_beyond_the_numbers_is_training_that_diverged() -> None:
    network = nn.Linear(5, 3)
    far = schedule("adam", rate=1e29, beta=1 - 1e-12)
    with pytest.raises(DivergedError) as caught:
        take_step(Task(network, "cross_entropy"), far, State(params_of(network), {}), {}, INPUTS, LABELS, 0)
    assert caught.value.step == 1


def test_what_nobody_foresaw_is_not_told_as_a_misfit() -> None:
    with pytest.raises(RuntimeError, match="derivative"), user_problems(job(nn.Linear(5, 3))):
        raise RuntimeError("the derivative is not implemented")
