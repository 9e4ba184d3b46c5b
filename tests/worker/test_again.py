"""A run trained again, longer and on images that move."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from app.catalog import Recipe
from worker.again import train_again
from worker.influence.selection.moved import Moved
from worker.influence.task import Task, Tensors
from worker.influence.training import State
from worker.influence.trajectory import Arrays, Schedule
from worker.lease import Renewal

N, SIDE = 12, 14
RATES = (0.5, 0.4, 0.3, 0.2, 0.1, 0.05)  # of two epochs of three batches


@dataclass
class Ticks:
    """A lease that counts what it is told."""

    done: float = 0.0

    def tick(self, done: float = 0.0) -> None:
        self.done += done


def job(schedule: dict[str, Any] | None) -> Any:
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(N, 1, SIDE, SIDE, generator=draw), torch.arange(N) % 3
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3))
    names = [name for name, _ in network.named_parameters()]
    return SimpleNamespace(
        data=lambda arrays, tick: arrays,
        train=Arrays(images, labels),
        recipe=Recipe.model_validate({"batch_size": 4, "epochs": 2, "schedule": schedule}),
        schedule=Schedule((6,), (RATES,), None, N),
        task=Task(network, "cross_entropy"),
        trained=names,
        held=[],
        start=None,
    )


def run(schedule: dict[str, Any] | None = None, **how: Any) -> tuple[list[float], Tensors]:
    """(how far the bias went with each step, which its rate bounds; the weights at the end)."""
    asked, ticks, seen = job(schedule), Ticks(), [job(schedule).task.network.state_dict()]

    def see(step: int, state: State, held: Tensors) -> None:
        assert step == len(seen)
        seen.append(cast(Any, state.params))

    ended = train_again(asked, None, {}, 1, cast(Renewal, ticks), see, **how)
    assert ended is not None and ticks.done == pytest.approx(1)
    return [float((b["1.bias"] - a["1.bias"]).abs().sum()) for a, b in pairwise(seen)], ended[0]


def test_by_the_recipe_each_step_has_its_rate() -> None:
    went, _ = run()
    assert len(went) == 6
    assert all(far <= 2 * rate for far, rate in zip(went, RATES, strict=True))


@pytest.mark.parametrize(
    "schedule", [None, {"name": "step", "learning_rate": 0.5, "step_size": 2, "gamma": 0.001}]
)
def test_twice_as_long_each_rate_holds_for_two_steps(schedule: dict[str, Any] | None) -> None:
    rates = RATES if schedule is None else [0.5, 0.5, 5e-4, 5e-4, 5e-7, 5e-7]
    went, _ = run(schedule, longer=2)
    assert len(went) == 12
    assert all(far <= 2 * rates[step // 2] for step, far in enumerate(went))
    if schedule is not None:
        assert min(went[:4]) > 2 * 5e-4 > max(went[4:8])


def test_moved_images_train_another_network_and_the_same_one_again() -> None:
    shown = partial(Moved, seed=1, mirrored=True)
    (_, still), (_, moved), (_, again) = run(), run(shown=shown), run(shown=shown)
    assert not torch.equal(still["1.weight"], moved["1.weight"])
    assert torch.equal(moved["1.weight"], again["1.weight"])
