"""What a method is made of: pure functions that may run on different machines, and what passes between them.

A job runs `sweep` once a checkpoint (from the last to the first where the method is chained), then
`score_chunk` for every chunk of samples at every checkpoint, then `reduce`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from worker.influence.errors import ensure_finite_rows, ensure_finite_vector
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Data, Trajectory

Options = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Sweep:
    """What all samples share at one checkpoint.

    Attributes:
        vectors: by name, for `score_chunk` at this checkpoint.
        carry: by name, for the sweep at the checkpoint before, where the method is chained.
        notes: figures worth telling.
    """

    vectors: dict[str, Tensors]
    carry: dict[str, Tensors] | None = None
    notes: dict[str, float] = field(default_factory=dict)

    def checked(self, step: int) -> Sweep:
        """Itself; raises NonFiniteError when a vector holds NaN or infinity."""
        for name, vector in self.vectors.items():
            ensure_finite_vector(f"The vector {name} that all samples share", step, vector)
        for name, vector in (self.carry or {}).items():
            ensure_finite_vector(f"The vector {name} that the checkpoint before needs", step, vector)
        return self


class Chunk(NamedTuple):
    """What one checkpoint says of a chunk of samples.

    Attributes:
        contribution: to each sample's score, float64 [B].
        loss: [B]; prediction: [B].
        self_influence: float64 [B], this checkpoint's part of it; None where the method has none.
    """

    contribution: torch.Tensor
    loss: torch.Tensor
    prediction: torch.Tensor
    self_influence: torch.Tensor | None = None

    def checked(self, step: int) -> Chunk:
        """Itself; raises NonFiniteError naming the first sample, within the chunk, with a NaN or infinity."""
        ensure_finite_rows("The loss", step, self.loss)
        ensure_finite_rows("The contribution to the score", step, self.contribution)
        return self


class SweepFunction(Protocol):
    """(task, trajectory, k, …) → the vectors that all samples share at checkpoint k."""

    def __call__(
        self,
        task: Task,
        trajectory: Trajectory,
        k: int,
        train: Data,
        query: Data | None,
        carry: dict[str, Tensors] | None,
        *,
        seed: int,
        chunk: int,
        options: Options,
    ) -> Sweep: ...


class ScoreFunction(Protocol):
    """(task, trajectory, k, …, a chunk and its rows) → what checkpoint k says of each of its samples."""

    def __call__(
        self,
        task: Task,
        trajectory: Trajectory,
        k: int,
        vectors: dict[str, Tensors],
        inputs: torch.Tensor,
        targets: torch.Tensor,
        rows: Sequence[int] | range,
        *,
        options: Options,
    ) -> Chunk: ...


class ReduceFunction(Protocol):
    """Contributions [m, N] → scores [N]."""

    def __call__(self, contributions: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Method:
    """A method of the registry.

    Attributes:
        needs_query: whether it asks for a query set (`diff_in_eq9` does not with target "self").
        chained: whether each sweep needs the carry of the one at the checkpoint after.
        options: a dataclass of its options and their defaults.
        sweep: None where samples share nothing.
    """

    name: str
    needs_query: bool
    chained: bool
    options: type
    sweep: SweepFunction | None
    score_chunk: ScoreFunction
    reduce: ReduceFunction


def plain_losses(
    task: Task, checkpoint: Checkpoint, inputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(losses [B], predictions [B]) of a chunk, by one forward pass."""
    outputs = task.outputs(checkpoint.params, checkpoint.buffers, inputs, targets)
    return task.losses_of(outputs, targets), task.predictions(outputs, targets)


def add_up(contributions: torch.Tensor) -> torch.Tensor:
    """Σ_k of contributions [m, N] → [N], row after row: the same bits however the samples were split."""
    total = torch.zeros_like(contributions[0])
    for row in contributions:
        total = total + row
    return total


def read(kind: type[T], options: Options) -> T:
    """The dataclass `kind` of `options`; `batch_size`, known of every run, is left out where it has no use.

    Raises:
        ValueError: an option that the method does not have.
    """
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    unknown = set(options) - known - {"batch_size"}
    if unknown:
        raise ValueError(f"Unknown options: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    return kind(**{name: value for name, value in options.items() if name in known})


def query_of(query: Data | None) -> Data:
    """The query set; raises ValueError where there is none, or none of its samples is left."""
    if query is None or len(query) == 0:
        raise ValueError("This method measures influence on a query set: give one with at least one sample")
    return query
