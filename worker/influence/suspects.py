"""Suspicion of a sample from itself alone, without a query set: gradient norms and errors of prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as nnf

from worker.influence import contrastive, next_token
from worker.influence.gradients import sample_gradients
from worker.influence.pieces import Chunk, Options, plain_losses, read
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Trajectory


@dataclass(frozen=True)
class NoOptions:
    """A method without options."""


def self_influence_chunk(
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
    """(Σ_j η_j)/N · ‖G_z(θ_k)‖², summed over the segment's steps: what a sample does to its own loss.

    Source: Pruthi et al., arXiv 2002.08484. Positive = suspicious.
    """
    read(NoOptions, options)
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    losses, predictions = plain_losses(task, checkpoint, inputs, targets)
    scale = sum(schedule.rates(k)) / schedule.train_size
    own = scale * squared_gradient_norms(task, checkpoint, inputs, targets)
    return Chunk(own, losses, predictions, own).checked(checkpoint.step)


def grad_norm_chunk(
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
    """‖G_z(θ_k)‖/m. Source: GraNd, Paul et al., arXiv 2107.07075, over the checkpoints there are."""
    read(NoOptions, options)
    checkpoint, m = trajectory.checkpoints[k], len(trajectory.checkpoints)
    losses, predictions = plain_losses(task, checkpoint, inputs, targets)
    norms = squared_gradient_norms(task, checkpoint, inputs, targets).sqrt()
    return Chunk(norms / m, losses, predictions).checked(checkpoint.step)


def el2n_chunk(
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
    """‖p_z(θ_k) - y_z‖₂/m, p the predicted chances (for mse the predicted values), y the one-hot label;
    of next_token, the mean over the tokens.

    Source: EL2N, Paul et al., arXiv 2107.07075, over the checkpoints there are.
    """
    read(NoOptions, options)
    checkpoint, m = trajectory.checkpoints[k], len(trajectory.checkpoints)
    outputs = task.outputs(checkpoint.params, checkpoint.buffers, inputs, targets)
    losses, predictions = task.losses_of(outputs, targets), task.predictions(outputs, targets)
    errors = _errors(task, outputs, targets).reshape(len(outputs), -1).double().norm(dim=1)
    return Chunk(errors / m, losses, predictions).checked(checkpoint.step)


def squared_gradient_norms(
    task: Task, checkpoint: Checkpoint, inputs: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """‖G_z(θ_k)‖² of each sample of a chunk, float64 [B]."""

    def squares(gradients: Tensors) -> torch.Tensor:
        return torch.stack([part.double().square().flatten(1).sum(1) for part in gradients.values()]).sum(0)

    return sample_gradients(task, checkpoint, inputs, targets, squares)


def _errors(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """p - y, as the outputs [B, …]; of clip: `contrastive.errors`; of next_token, how long it is [B]."""
    if task.in_groups:
        return contrastive.errors(outputs)
    if task.loss == "next_token":
        return next_token.errors(outputs, targets)
    if task.loss == "cross_entropy":
        labels = nnf.one_hot(targets, outputs.shape[1]).movedim(-1, 1)
        return outputs.softmax(1) - labels
    values = outputs if task.loss == "mse" else outputs.sigmoid()
    return (values - targets.reshape(outputs.shape)).reshape(len(outputs), -1)
