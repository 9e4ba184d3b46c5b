"""Scores against what they estimate: training again without the sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from worker.influence.evaluate import precision_at_k, spearman
from worker.influence.retraining import leave_one_out
from worker.influence.score import score
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

N, BATCH, RATE, STEPS, REMOVED = 400, 40, 0.2, (32, 64, 96, 128, 160), 60


def digits(seed: int) -> tuple[Arrays, torch.Tensor, Arrays]:
    """(training set with 10% of its labels flipped, which are flipped, query set)."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(x))
    train, query = rows[:N], rows[N : N + 400]
    given, flipped = y[train].copy(), rng.random(N) < 0.1
    given[flipped] = (given[flipped] + rng.integers(1, 10, flipped.sum())) % 10
    x = torch.tensor(x / 16.0)
    return (
        Arrays(x[train], torch.tensor(given)),
        torch.tensor(flipped),
        Arrays(x[query], torch.tensor(y[query])),
    )


def batch_order(seed: int) -> torch.Tensor:
    """Epoch after epoch in a fixed order: [T, B]."""
    rng = np.random.default_rng(seed)
    epochs = np.concatenate([rng.permutation(N) for _ in range(STEPS[-1] * BATCH // N)])
    return torch.tensor(epochs.reshape(STEPS[-1], BATCH))


def train(network: nn.Module, data: Arrays, order: torch.Tensor) -> list[Checkpoint]:
    """Plain SGD; a checkpoint at each of STEPS, in float32 as a user would keep it."""
    checkpoints, optimizer = [], torch.optim.SGD(network.parameters(), lr=RATE)
    for step, rows in enumerate(order, start=1):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(data.inputs[rows]), data.targets[rows])
        torch.autograd.backward(loss)
        optimizer.step()
        if step in STEPS:
            state = {name: p.detach().clone().float() for name, p in network.named_parameters()}
            checkpoints.append(Checkpoint(step, (RATE,) * 32, state, {}))
    return checkpoints


@dataclass(frozen=True)
class Run:
    """A finished training run on noisy labels, and what leaving out some of its samples really did."""

    task: Task
    checkpoints: list[Checkpoint]
    schedule: Schedule
    data: Arrays
    flipped: torch.Tensor
    query: Arrays
    removed: list[int]
    harm: torch.Tensor  # [len(removed)], query loss with the sample minus without it

    @classmethod
    def of(cls, seed: int) -> Run:
        """A digits MLP (64-32-10, GELU): training data, weights, order and the samples left out by `seed`."""
        data, flipped, query = digits(seed + 1)
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 10)).double()
        start: Tensors = {name: p.detach().clone() for name, p in network.named_parameters()}
        order, task = batch_order(seed), Task(network, "cross_entropy")
        checkpoints = train(network, data, order)
        removed = np.random.default_rng(seed).choice(N, REMOVED, replace=False).tolist()
        harm = leave_one_out(
            task, start, {}, data, query, order=order, rates=[RATE] * STEPS[-1], removed=removed
        )
        schedule = Schedule(STEPS, ((RATE,) * 32,) * 5, total_steps=STEPS[-1], train_size=N)
        single = [Arrays(part.inputs.float(), part.targets) for part in (data, query)]
        return cls(task, checkpoints, schedule, single[0], flipped, single[1], removed, harm)

    def judged(self, method: str, **options: Any) -> tuple[float, float]:
        """(Spearman of the method's scores with leave-one-out, their precision against the flips)."""
        scores = score(
            method,
            self.task,
            Trajectory(self.checkpoints, self.schedule),
            self.data,
            self.query,
            options=options,
        ).scores
        precision = precision_at_k(scores, self.flipped, int(self.flipped.sum()))
        return spearman(scores[self.removed], self.harm), precision


def test_diff_in_at_its_defaults_ranks_as_leave_one_out_does(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [Run.of(seed) for seed in range(3)]
    correlations, precisions = zip(*(run.judged("diff_in") for run in runs), strict=True)
    baselines = [run.judged("loss")[1] for run in runs]
    with capsys.disabled():
        print(f"\ndigits, 3 seeds: Spearman with leave-one-out {np.round(correlations, 3)}")
        print(f"precision against the flipped labels {np.round(precisions, 2)}, of the mean loss", end=" ")
        print(np.round(baselines, 2))
    assert np.mean(correlations) >= 0.7
    assert np.mean(precisions) >= 0.75
