"""What a training run left behind: its checkpoints, the learning rates of its steps, and its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import torch

from worker.influence.task import Tensors

Position = Literal["end", "middle"]


@dataclass(frozen=True)
class Checkpoint:
    """θ_k, the state after `step` optimizer steps.

    Attributes:
        learning_rates: of the steps since the checkpoint before, one each.
        params: what influence is measured over.
        buffers: what is held fixed: the network's buffers, and the parameters that were left out.
        state: what the optimizer carries, by its name in torch ("momentum_buffer", "exp_avg", "exp_avg_sq"),
            for each parameter that was trained.
        frozen: names of the buffers that are really parameters: trained, but left out of the influence.
    """

    step: int
    learning_rates: tuple[float, ...]
    params: Tensors
    buffers: Tensors
    state: Mapping[str, Tensors] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Schedule:
    """How the run was trained, as far as the formulas ask.

    Attributes:
        steps: each checkpoint's step, ascending.
        learning_rates: for each checkpoint, one rate a step since the checkpoint before (or since step 0).
        total_steps: steps of the whole run; None: the last checkpoint's step.
        train_size: N of the formulas.
        momentum: μ of SGD; η/(1-μ) stands for η wherever steps are summed.
        weight_decay: added to the curvature (coupled), or shrinking weights beside the gradient (decoupled).
        optimizer: "sgd", "adam" or "adamw"; the steps of the latter two are taken as plain gradient steps
            where a checkpoint has no `exp_avg_sq`.
        betas, eps: of Adam.
    """

    steps: tuple[int, ...]
    learning_rates: tuple[tuple[float, ...], ...]
    total_steps: int | None
    train_size: int
    momentum: float = 0.0
    weight_decay: float = 0.0
    decoupled: bool = False
    optimizer: str = "sgd"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if len(self.learning_rates) != len(self.steps):
            raise ValueError(f"{len(self.steps)} checkpoints, {len(self.learning_rates)} lists of rates")
        lengths = [b - a for a, b in zip((0, *self.steps), self.steps, strict=False)]
        for step, length, rates in zip(self.steps, lengths, self.learning_rates, strict=True):
            if length < 0 or len(rates) != length:
                raise ValueError(f"checkpoint at step {step}: {len(rates)} learning rates for {length} steps")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum {self.momentum} is not in [0, 1)")

    def rate(self, step: int) -> float:
        """The plain learning rate of one step, counted from 0."""
        return self._every[step]

    def rates(self, k: int, position: Position = "end", until: int | None = None) -> tuple[float, ...]:
        """Effective learning rates η_a/(1-μ) … η_{b-1}/(1-μ) of the steps checkpoint k stands for.

        Args:
            until: only of those before this step.
        """
        return tuple(rate / (1 - self.momentum) for rate in self._segment(k, position, until))

    def decays(self, k: int, position: Position = "end", until: int | None = None) -> tuple[float, ...]:
        """How much of the weights each of these steps takes away by decoupled weight decay: η_j·wd, or 0."""
        share = self.weight_decay if self.decoupled else 0.0
        return tuple(rate * share for rate in self._segment(k, position, until))

    def _segment(self, k: int, position: Position, until: int | None) -> tuple[float, ...]:
        """The plain learning rates of segment k.

        `end`: the steps since the checkpoint before. `middle`: those between the midpoints (rounded down) to
        the neighbouring checkpoints, the first from step 0, the last to `total_steps`.
        """
        if position == "end":
            bounds = [0, *self.steps]
        else:
            middles = [(a + b) // 2 for a, b in zip(self.steps, self.steps[1:], strict=False)]
            bounds = [0, *middles, len(self._every)]
        stop = bounds[k + 1] if until is None else min(bounds[k + 1], until)
        return self._every[bounds[k] : stop]

    @cached_property
    def _every(self) -> tuple[float, ...]:
        """The rate of each step; after the last checkpoint, where nobody recorded them, its last rate."""
        every = tuple(rate for rates in self.learning_rates for rate in rates)
        beyond = 0 if self.total_steps is None else self.total_steps - self.steps[-1]
        return every + every[-1:] * beyond


@dataclass(frozen=True)
class Trajectory:
    """What a training run left behind.

    Attributes:
        checkpoints: ascending in steps, as many as the schedule's; a sequence may read each when asked.
        order: rows of the training set in each step's batch, int64 [T, B], -1 where a batch is shorter; None:
            unknown.
    """

    checkpoints: Sequence[Checkpoint]
    schedule: Schedule
    order: torch.Tensor | None = None


class Data(Protocol):
    """A data set as the network takes it: preprocessed, on the checkpoints' device, of their dtype."""

    def __len__(self) -> int: ...

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs [B, …], targets [B, …]) of `rows` (None: all), in order, `size` samples at a time."""
        ...


@dataclass(frozen=True)
class Arrays:
    """Data in memory: inputs [N, …] and targets [N, …]."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs [B, …], targets [B, …]) of `rows` (None: all), in order, `size` samples at a time."""
        wanted = range(len(self)) if rows is None else rows
        for start in range(0, len(wanted), size):
            part = list(wanted[start : start + size])
            yield self.inputs[part], self.targets[part]


def draw_rows(population: int, size: int, *, seed: int, stream: int = 0, group: int = 1) -> list[int]:
    """`size` different rows out of `population`, ascending; the same for the same seed and stream.

    A stream of its own keeps, say, the batches of different checkpoints apart. Where a group of rows belongs
    together, whole groups are drawn, as many as `size` rows hold and at least one; of several, not the last
    one where it is shorter.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + stream) % 2**63)
    groups, wanted = max(1, population // group), max(1, size // group)
    drawn: list[int] = torch.randperm(groups, generator=generator)[:wanted].tolist()
    return [row for g in sorted(drawn) for row in range(g * group, min((g + 1) * group, population))]
