"""Retraining side by side against plain loops, and what it costs to be sure of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from worker.influence.retraining import (
    halves,
    leave_one_out,
    reordered,
    repeated,
    retrain,
    runs_at_once,
    takes_step,
    without,
)
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint

N, BATCH, STEPS = 12, 4, 9
RATES = [0.5] * 5 + [0.1] * 4


class Setting:
    """A tiny network with its data, in float64."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.task = Task(self.network, "cross_entropy")
        self.start: Tensors = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.train = Arrays(torch.randn(N, 3, dtype=torch.float64), torch.randint(0, 2, (N,)))
        self.query = Arrays(torch.randn(5, 3, dtype=torch.float64), torch.randint(0, 2, (5,)))
        self.order = torch.stack([torch.randperm(N)[:BATCH] for _ in range(STEPS)])
        self.order[2, 3] = self.order[7, 2:] = -1

    def loop(
        self,
        kept: Sequence[int],
        *,
        divide_by_kept: bool = False,
        optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        **how: Any,
    ) -> float:
        """The query loss after an ordinary loop over the samples that are kept."""
        self.network.load_state_dict(self.start)
        steps = optimizer(self.network.parameters(), lr=1.0, **how)  # type: ignore[call-arg]
        for batch, rate in zip(self.order, RATES, strict=True):
            rows = [row for row in batch.tolist() if row in kept]
            divisor = len(rows) if divide_by_kept else int((batch >= 0).sum())
            steps.param_groups[0]["lr"] = rate
            steps.zero_grad()
            outputs, targets = self.network(self.train.inputs[rows]), self.train.targets[rows]
            loss = nn.functional.cross_entropy(outputs, targets, reduction="sum") / max(1, divisor)
            torch.autograd.backward(loss)
            steps.step()
        with torch.no_grad():
            return nn.functional.cross_entropy(self.network(self.query.inputs), self.query.targets).item()

    def retrained(self, kept: torch.Tensor, **how: Any) -> torch.Tensor:
        starts = repeated(self.start, len(kept))
        how = {"order": self.order} | how
        return retrain(self.task, starts, {}, self.train, self.query, rates=RATES, kept=kept, **how).mean(1)


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_leave_one_out_is_plain_training_with_one_weight_at_zero(setting: Setting) -> None:
    harm = leave_one_out(
        setting.task, setting.start, {}, setting.train, setting.query,
        order=setting.order, rates=RATES, removed=[0, 5, 7, 11], at_once=3,
    )  # fmt: skip
    whole = setting.loop(range(N))
    expected = [whole - setting.loop([row for row in range(N) if row != out]) for out in (0, 5, 7, 11)]
    assert harm.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("batched", [True, False], ids=["side by side", "one by one"])
@pytest.mark.parametrize(
    ("optimizer", "how"),
    [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.AdamW, {"weight_decay": 0.1})],
    ids=["momentum", "adamw"],
)
def test_half_of_the_samples_is_training_on_these_alone(
    setting: Setting, optimizer: type[torch.optim.Optimizer], how: dict[str, Any], batched: bool
) -> None:
    kept = halves(N, 3, seed=0)
    assert kept.sum(1).tolist() == [N // 2] * 3
    done: list[float] = []
    found = setting.retrained(
        kept,
        divide_by_kept=True,
        optimizer=lambda params: optimizer(params, lr=0.0, **how),  # type: ignore[call-arg]
        batched=batched,
        at_once=2,
        tick=done.append,
    )
    expected = [
        setting.loop(mask.nonzero().flatten().tolist(), divide_by_kept=True, optimizer=optimizer, **how)
        for mask in kept
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    assert sum(done) == pytest.approx(3)


def test_runs_may_have_batches_of_their_own(setting: Setting) -> None:
    kept = without([3, 4], N)
    orders = torch.stack([setting.order, setting.order.flip(0)])
    both = setting.retrained(kept, order=orders)
    each = torch.cat([setting.retrained(kept[i : i + 1], order=orders[i]) for i in range(2)])
    torch.testing.assert_close(both, each, rtol=1e-12, atol=0)
    torch.testing.assert_close(both, setting.retrained(kept, order=orders, batched=False), rtol=1e-12, atol=0)


def test_another_order_of_summation_moves_the_end_by_rounding_only(setting: Setting) -> None:
    other = reordered(setting.order, seed=1)
    assert not torch.equal(other, setting.order)
    assert torch.equal(other.sort(1).values, setting.order.sort(1).values)
    assert torch.equal(other < 0, setting.order < 0)
    whole = torch.ones(1, N, dtype=torch.bool)
    torch.testing.assert_close(
        setting.retrained(whole, order=other), setting.retrained(whole), rtol=1e-12, atol=0
    )


class Branching(nn.Module):
    """What vmap refuses: a decision by a value."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.linear(inputs)
        return outputs if float(outputs.detach().sum()) > 0 else 2 * outputs


def test_networks_that_vmap_refuses_are_told_apart(setting: Setting) -> None:
    x, y = setting.train.inputs[:2], setting.train.targets[:2]
    assert takes_step(setting.task, setting.start, {}, x, y, batched=True)
    network = Branching().double()
    params = {name: p.detach() for name, p in network.named_parameters()}
    task = Task(network, "cross_entropy")
    assert not takes_step(task, params, {}, x, y, batched=True)
    assert takes_step(task, params, {}, x, y, batched=False)


def test_memory_bounds_the_runs_that_train_side_by_side(setting: Setting) -> None:
    state = Checkpoint(0, (), setting.start, {})
    x, y = setting.train.inputs[:1], setting.train.targets[:1]
    many, few, one = (
        runs_at_once(setting.task, state, x, y, batch=BATCH, budget_bytes=size)
        for size in (1 << 30, 10_000, 1)
    )
    assert many == 16 > few > one == 1


def test_out_of_memory_takes_fewer_runs_at_a_time(setting: Setting) -> None:
    kept = without(range(4), N)

    class Short(Arrays):
        """Data that come with too little memory for the first group."""

        failed = False

        def chunks(self, size: int, rows: Any = None) -> Any:
            if not Short.failed:
                Short.failed = True
                raise MemoryError
            return super().chunks(size, rows)

    wanted = setting.retrained(kept)
    setting.train = Short(setting.train.inputs, setting.train.targets)
    torch.testing.assert_close(setting.retrained(kept), wanted, rtol=1e-12, atol=0)
