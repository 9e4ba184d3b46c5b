"""What Diff-In is measured against: TracIn, and the loss alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from worker.influence.directional import directional_derivative, gradient
from worker.influence.pieces import Chunk, Options, Sweep, plain_losses, query_of, read
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Data, Trajectory


@dataclass(frozen=True)
class TracInOptions:
    """`tracin` has no options."""


@dataclass(frozen=True)
class LossOptions:
    """Options of `loss`: over all checkpoints, or at the last one only."""

    which: Literal["mean", "last"] = "mean"


def tracin_sweep(
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
) -> Sweep:
    """vectors {"v"}: ∇L_V(θ_k)."""
    read(TracInOptions, options)
    checkpoint = trajectory.checkpoints[k]
    v = gradient(task, checkpoint, query_of(query), chunk=chunk)
    return Sweep(vectors={"v": v}).checked(checkpoint.step)


def tracin_chunk(
    task: Task,
    trajectory: Trajectory,
    k: int,
    vectors: dict[str, Tensors],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    rows: Sequence[int] | range,
    *,
    options: Options,
) -> Chunk:
    """-(Σ_j η_j)/N · ⟨∇L_V(θ_k), G_z⟩, summed over the segment's steps: the first-order part of Diff-In.

    Source: Pruthi et al., arXiv 2002.08484, with the sign turned to positive = harmful.
    """
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    found = directional_derivative(task, checkpoint, inputs, targets, vectors["v"])
    contribution = -sum(schedule.rates(k)) / schedule.train_size * found.derivatives.double()
    return Chunk(contribution, found.losses, found.predictions).checked(checkpoint.step)


def loss_chunk(
    task: Task,
    trajectory: Trajectory,
    k: int,
    vectors: dict[str, Tensors],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    rows: Sequence[int] | range,
    *,
    options: Options,
) -> Chunk:
    """ℓ_z(θ_k)/m for `which` "mean"; for "last" ℓ_z at the last checkpoint and 0 elsewhere."""
    which, m = read(LossOptions, options).which, len(trajectory.checkpoints)
    checkpoint = trajectory.checkpoints[k]
    losses, predictions = plain_losses(task, checkpoint, inputs, targets)
    share = 1 / m if which == "mean" else float(k == m - 1)
    return Chunk(share * losses.double(), losses, predictions).checked(checkpoint.step)
