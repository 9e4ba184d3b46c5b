"""A run on pairs, small enough for explicit Hessians, and its reference, written without the engine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacrev

from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

Tensor = torch.Tensor
GROUP, STEPS, RATES = 4, (3, 5), ((0.4, 0.1, 0.3), (0.2, 0.5))


class Pairs(nn.Module):
    """Two encoders of a few parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(3, 2)
        self.words = nn.Embedding(5, 2)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.tanh(self.image(images)), torch.tanh(self.words(tokens)).mean(1), self.scale.exp()


@dataclass(frozen=True)
class Reference:
    """The losses of `data` at θ [P], pair by pair and group by group."""

    network: nn.Module
    params: dict[str, Tensor]
    data: Arrays
    group: int = GROUP

    @cached_property
    def theta(self) -> Tensor:
        return torch.cat([p.flatten() for p in self.params.values()])

    def score(self, theta: Tensor, i: int, j: int) -> Tensor:
        """s_ij of image i and text j."""
        pieces = torch.split(theta, [p.numel() for p in self.params.values()])
        named = {
            name: piece.reshape(p.shape) for (name, p), piece in zip(self.params.items(), pieces, strict=True)
        }
        image, text, scale = functional_call(
            self.network, named, (self.data.inputs[i : i + 1], self.data.targets[j : j + 1])
        )
        found: Tensor = scale * (image[0] * text[0]).sum()
        return found

    def loss(self, theta: Tensor, i: int, rows: list[int]) -> Tensor:
        """ℓ_i among `rows`."""
        there = torch.stack([self.score(theta, i, j) for j in rows]).exp().sum().log()
        back = torch.stack([self.score(theta, j, i) for j in rows]).exp().sum().log()
        return (there + back) / 2 - self.score(theta, i, i)

    def total(self, theta: Tensor, rows: list[int]) -> Tensor:
        """Σ_i ℓ_i over `rows`, one group."""
        return torch.stack([self.loss(theta, i, rows) for i in rows]).sum() if rows else theta.sum() * 0

    def share(self, theta: Tensor, z: int, rows: list[int]) -> Tensor:
        """What z adds to the total of `rows`."""
        return self.total(theta, rows) - self.total(theta, [row for row in rows if row != z])

    @property
    def groups(self) -> list[list[int]]:
        n = len(self.data)
        return [list(range(a, min(a + self.group, n))) for a in range(0, n, self.group)]

    def mean(self, theta: Tensor, groups: list[list[int]] | None = None) -> Tensor:
        """The mean loss over `groups`; None: all."""
        wanted = self.groups if groups is None else groups
        return torch.stack([self.total(theta, rows) for rows in wanted]).sum() / sum(map(len, wanted))

    @property
    def losses(self) -> Tensor:
        return torch.stack([self.loss(self.theta, i, rows) for rows in self.groups for i in rows])

    @cached_property
    def share_gradients(self) -> Tensor:  # [N, P]
        return torch.stack([grad(self.share)(self.theta, z, rows) for rows in self.groups for z in rows])

    @cached_property
    def gradient(self) -> Tensor:
        found: Tensor = grad(self.mean)(self.theta)
        return found

    def hessian(self, groups: list[list[int]] | None = None) -> Tensor:
        found: Tensor = hessian(self.mean)(self.theta, groups)
        return found

    def gauss_newton(self) -> Tensor:
        """(1/N) Σ_groups Jᵀ (∇²_s Σ ℓ) J, J the Jacobian of the group's logits."""
        curvature = torch.zeros(len(self.theta), len(self.theta), dtype=self.theta.dtype)
        for rows in self.groups:

            def logits(theta: Tensor, rows: list[int] = rows) -> Tensor:
                return torch.stack([self.score(theta, i, j) for i in rows for j in rows])

            def total(s: Tensor, n: int = len(rows)) -> Tensor:
                s = s.reshape(n, n)
                return ((s.exp().sum(1).log() + s.exp().sum(0).log()) / 2 - s.diagonal()).sum()

            jacobian = jacrev(logits)(self.theta)
            curvature += jacobian.T @ hessian(total)(logits(self.theta)) @ jacobian
        return curvature / len(self.data)


@dataclass(frozen=True)
class PairRun:
    """Two checkpoints of `Pairs`; ten training pairs in groups of 4, 4 and 2, six query pairs."""

    task: Task
    trajectory: Trajectory
    train: Arrays
    query: Arrays

    def reference(self, k: int, data: Arrays) -> Reference:
        return Reference(self.task.network, self.trajectory.checkpoints[k].params, data)


def pair_run() -> PairRun:
    torch.manual_seed(3)
    network = Pairs().double()

    def draw(n: int) -> Arrays:
        return Arrays(torch.randn(n, 3, dtype=torch.float64), torch.randint(0, 5, (n, 2)))

    checkpoints = [
        Checkpoint(step, rates, {name: torch.randn_like(p) for name, p in network.named_parameters()}, {})
        for step, rates in zip(STEPS, RATES, strict=True)
    ]
    schedule = Schedule(STEPS, RATES, total_steps=None, train_size=12)
    return PairRun(Task(network, "clip", GROUP), Trajectory(checkpoints, schedule), draw(10), draw(6))
