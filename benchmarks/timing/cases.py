"""The networks that are timed, with data and weights drawn at random: no figure depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from worker.influence.networks import build
from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

RATE, STEPS = 0.1, 10  # learning rate, and steps from one checkpoint to the next


class Case(NamedTuple):
    """A network and how much is asked of it.

    Attributes:
        shape: of one sample; () where a sample is `max_length` token ids.
        samples, queries: sizes of the training and the query set.
        checkpoints: how many.
    """

    network: str
    config: Mapping[str, Any]
    shape: tuple[int, ...]
    samples: int
    queries: int
    checkpoints: int

    def quick(self) -> Case:
        return self._replace(samples=-(-self.samples // 4), checkpoints=1)


class Made(NamedTuple):
    task: Task
    trajectory: Trajectory
    train: Arrays
    query: Arrays


CASES = {
    "mlp": Case("mlp", {"in_features": 784, "num_classes": 10, "hidden": [108]}, (784,), 2048, 128, 3),
    "cnn": Case(
        "cnn",
        {"in_channels": 1, "num_classes": 10, "channels": [16, 32], "image_size": [16, 16]},
        (1, 16, 16),
        2048,
        128,
        3,
    ),
    "resnet18": Case("resnet", {"num_classes": 10}, (3, 32, 32), 135, 45, 1),
    "transformer": Case(
        "transformer", {"vocab_size": 2000, "max_length": 32, "num_classes": 6}, (), 512, 64, 2
    ),
}


def make(
    case: Case, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> Made:
    """The case's network with fresh weights at each checkpoint, and its data, on `device`."""
    torch.manual_seed(seed)
    networks = [build(case.network, case.config).to(device, dtype) for _ in range(case.checkpoints)]
    steps = tuple(STEPS * (k + 1) for k in range(case.checkpoints))
    rates = ((RATE,) * STEPS,) * case.checkpoints
    checkpoints = [
        Checkpoint(step, rates[0], *_tensors(network)) for step, network in zip(steps, networks, strict=True)
    ]

    def draw(n: int) -> Arrays:
        targets = torch.randint(case.config["num_classes"], (n,))
        if not case.shape:
            tokens = torch.randint(1, case.config["vocab_size"], (n, case.config["max_length"]))
            return Arrays(tokens.to(device), targets.to(device))
        return Arrays(torch.randn(n, *case.shape).to(device, dtype), targets.to(device))

    schedule = Schedule(steps, rates, total_steps=None, train_size=case.samples)
    return Made(
        Task(networks[0], "cross_entropy"),
        Trajectory(checkpoints, schedule),
        draw(case.samples),
        draw(case.queries),
    )


def _tensors(network: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    params = {name: p.detach().clone() for name, p in network.named_parameters()}
    return params, {name: b.clone() for name, b in network.named_buffers()}
