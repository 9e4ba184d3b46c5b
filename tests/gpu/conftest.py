"""A trajectory of each network, and the devices it is scored on.

They need torch, numpy and pytest alone, without the packages of the service:

    pytest --confcutdir=tests/gpu tests/gpu
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from worker.influence.networks import build
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory


class Unregistered(nn.Module):
    """With an operation that dual numbers have no rule for, so that torch's forward mode is used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(nn.functional.silu(self.first(x.flatten(1))))
        return y


TOKENS = {
    "vocab_size": 11, "max_length": 6, "num_classes": 3, "d_model": 8, "num_heads": 2, "num_layers": 1,
    "dim_feedforward": 10,
}  # fmt: skip
NETWORKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "linear": ("linear", {"in_features": 12, "num_classes": 3}),
    "mlp": ("mlp", {"in_features": 12, "hidden": [7, 5], "num_classes": 3}),
    "mlp tanh": ("mlp", {"in_features": 12, "hidden": [7], "num_classes": 3, "activation": "tanh"}),
    "cnn": ("cnn", {"in_channels": 2, "num_classes": 3, "channels": [4, 6], "image_size": [9, 8]}),
    "cnn batch": (
        "cnn",
        {"in_channels": 2, "num_classes": 3, "channels": [4], "norm": "batch", "activation": "relu"},
    ),
    "cnn group": (
        "cnn",
        {"in_channels": 2, "num_classes": 3, "channels": [4], "norm": "group", "groups": 2, "pool": "avg"},
    ),
    "resnet10": ("resnet", {"num_classes": 3, "in_channels": 2, "depth": 10, "width": 4}),
    "resnet50": ("resnet", {"num_classes": 3, "in_channels": 2, "depth": 50, "width": 2}),
    "transformer": ("transformer", TOKENS),
    "transformer norm first": ("transformer", {**TOKENS, "norm_first": True, "activation": "relu"}),
    "unregistered": ("", {}),
}
STEPS, RATES = (2, 5), ((0.1, 0.05), (0.05, 0.1, 0.02))
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Run:
    """Two checkpoints of a tiny network, 9 training and 5 query samples; float64 on the CPU until moved."""

    task: Task
    trajectory: Trajectory
    train: Arrays
    query: Arrays
    direction: Tensors
    along: Tensors

    def on(self, device: torch.device, dtype: torch.dtype) -> Run:
        """The same numbers elsewhere, in another precision."""

        def move(t: torch.Tensor) -> torch.Tensor:
            return t.to(device, dtype) if t.is_floating_point() else t.to(device)

        def each(tensors: Tensors) -> Tensors:
            return {name: move(t) for name, t in tensors.items()}

        checkpoints = [
            replace(c, params=each(c.params), buffers=each(c.buffers)) for c in self.trajectory.checkpoints
        ]
        return Run(
            self.task,
            replace(self.trajectory, checkpoints=checkpoints),
            Arrays(move(self.train.inputs), move(self.train.targets)),
            Arrays(move(self.query.inputs), move(self.query.targets)),
            each(self.direction),
            each(self.along),
        )


@cache
def make_run(label: str) -> Run:
    torch.manual_seed(0)
    name, config = NETWORKS[label]
    networks: list[nn.Module] = [build(name, config) if name else Unregistered() for _ in STEPS]
    checkpoints = [
        Checkpoint(
            step,
            rates,
            {name: p.detach().double() for name, p in network.named_parameters()},
            {name: b.double() if b.is_floating_point() else b for name, b in network.named_buffers()},
        )
        for step, rates, network in zip(STEPS, RATES, networks, strict=True)
    ]

    def draw(n: int) -> Arrays:
        if name == "transformer":
            return Arrays(torch.randint(0, 11, (n, 6)), torch.randint(3, (n,)))
        shape = (n, 2, 9, 8) if name in ("cnn", "resnet") else (n, 12)
        return Arrays(torch.randn(shape, dtype=torch.float64), torch.randint(3, (n,)))

    def direction() -> Tensors:
        return {name: torch.randn_like(p) for name, p in checkpoints[0].params.items()}

    schedule = Schedule(STEPS, RATES, total_steps=None, train_size=9)
    trajectory = Trajectory(checkpoints, schedule)
    return Run(Task(networks[0], "cross_entropy"), trajectory, draw(9), draw(5), direction(), direction())


@pytest.fixture(
    params=[
        # so deep that a CPU takes minutes
        pytest.param(name, marks=pytest.mark.slow) if name.startswith("resnet") else name
        for name in NETWORKS
    ]
)
def run(request: pytest.FixtureRequest) -> Run:
    return make_run(request.param)


CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@dataclass(frozen=True)
class Place:
    """Where and how precisely to compute, and how far, relatively, that may be from float64 on the CPU."""

    device: torch.device
    dtype: torch.dtype
    tolerance: float

    def close(self, ours: torch.Tensor, reference: torch.Tensor) -> bool:
        ours, reference = ours.double().cpu(), reference.double()
        return bool((ours - reference).norm() <= self.tolerance * reference.norm())


@pytest.fixture(
    params=[
        pytest.param(Place(CPU, torch.float32, 2e-3), id="cpu-float32"),
        pytest.param(Place(torch.device("cuda"), torch.float64, 1e-8), id="cuda-float64", marks=CUDA),
        pytest.param(Place(torch.device("cuda"), torch.float32, 2e-3), id="cuda-float32", marks=CUDA),
    ]
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A device and a precision, without TF32: it would be another one."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield request.param
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
