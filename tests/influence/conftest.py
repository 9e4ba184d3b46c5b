"""A training run small enough for explicit Hessians, with each loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import pytest
import torch
from torch import nn

from tests.influence.reference import Dense
from worker.influence.score import Result, score
from worker.influence.task import Loss, Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

# rates differ within a segment, segments in length, and the largest are past what the curvature can bear
RATES = ((4.9, 0.1, 0.4), (0.3, 3.8, 0.2, 0.6, 0.5), (5.7, 0.05))
STEPS = (3, 8, 10)


@dataclass(frozen=True)
class Run:
    """Three checkpoints of a tiny network, its data, and the dense reference of each state."""

    task: Task
    checkpoints: list[Checkpoint]
    schedule: Schedule
    train: Arrays
    query: Arrays

    @property
    def trajectory(self) -> Trajectory:
        return Trajectory(self.checkpoints, self.schedule)

    @cached_property
    def dense(self) -> list[Dense]:
        """The reference of each checkpoint on the training set."""
        return self._dense(self.train)

    @cached_property
    def dense_queries(self) -> list[Dense]:
        """The reference of each checkpoint on the query set."""
        return self._dense(self.query)

    @property
    def query_gradients(self) -> list[torch.Tensor]:
        return [state.gradients.mean(0) for state in self.dense_queries]

    def _dense(self, data: Arrays) -> list[Dense]:
        return [
            Dense(self.task.network, self.task.loss, c.params, c.buffers, data.inputs, data.targets)
            for c in self.checkpoints
        ]

    def score(self, method: str, *, seed: int = 0, chunk: int | None = 7, **options: Any) -> Result:
        return score(
            method,
            self.task,
            self.trajectory,
            self.train,
            self.query,
            seed=seed,
            chunk=chunk,
            options=options,
        )

    def trained(self, **how: Any) -> Run:
        """The same run under another schedule (momentum, weight decay …)."""
        return replace(self, schedule=replace(self.schedule, **how))

    def with_state(self, kind: str) -> Run:
        """The same run with something positive in what its optimizer carries under this name."""
        generator = torch.Generator().manual_seed(11)

        def draw(like: torch.Tensor) -> torch.Tensor:
            return torch.rand(like.shape, generator=generator, dtype=like.dtype) + 0.1

        return replace(
            self,
            checkpoints=[
                replace(c, state={kind: {name: draw(p) for name, p in c.params.items()}})
                for c in self.checkpoints
            ],
        )

    def single(self) -> Run:
        """The same run in float32."""

        def cast(t: torch.Tensor) -> torch.Tensor:
            return t.float() if t.is_floating_point() else t

        def state(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: cast(t) for name, t in tensors.items()}

        return replace(
            self,
            checkpoints=[
                replace(c, params=state(c.params), buffers=state(c.buffers)) for c in self.checkpoints
            ],
            train=Arrays(cast(self.train.inputs), cast(self.train.targets)),
            query=Arrays(cast(self.query.inputs), cast(self.query.targets)),
        )


@cache
def make_run(loss: Loss) -> Run:
    torch.manual_seed(7)
    outputs = 3 if loss == "cross_entropy" else 1 if loss == "bce_with_logits" else 2
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, outputs)).double()
    checkpoints = [
        Checkpoint(
            step,
            rates,
            params={name: torch.randn_like(p) for name, p in network.named_parameters()},
            buffers={
                "1.running_mean": torch.randn(3, dtype=torch.float64),
                "1.running_var": torch.rand(3, dtype=torch.float64) + 0.5,
                "1.num_batches_tracked": torch.tensor(step),
            },
        )
        for step, rates in zip(STEPS, RATES, strict=True)
    ]

    def draw(n: int) -> Arrays:
        x = torch.randn(n, 4, dtype=torch.float64)
        if loss == "cross_entropy":
            return Arrays(x, torch.randint(0, 3, (n,)))
        if loss == "bce_with_logits":
            return Arrays(x, torch.randint(0, 2, (n,)).double())
        return Arrays(x, torch.randn(n, 2, dtype=torch.float64))

    schedule = Schedule(steps=STEPS, learning_rates=RATES, total_steps=None, train_size=20)
    return Run(Task(network, loss), checkpoints, schedule, draw(13), draw(7))


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """On tensors this small, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["cross_entropy", "bce_with_logits", "mse"])
def run(request: pytest.FixtureRequest) -> Run:
    """The run with each of the three losses, in float64; 13 training and 7 query samples, N = 20."""
    return make_run(request.param)


@pytest.fixture
def one_run() -> Run:
    """The run with cross entropy."""
    return make_run("cross_entropy")


def close(ours: torch.Tensor, reference: torch.Tensor, tolerance: float = 1e-9) -> bool:
    """‖ours - reference‖ ≤ tolerance·‖reference‖."""
    return bool((ours.double() - reference.double()).norm() <= tolerance * reference.double().norm())
