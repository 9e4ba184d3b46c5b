"""Is a score true? Retraining without a sample, and figures that compare one ranking with another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.func import grad, vmap

from worker.influence.task import Task, Tensors
from worker.influence.vectors import combine


def leave_one_out(
    task: Task,
    start: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    order: torch.Tensor,
    rates: Sequence[float],
    removed: Sequence[int],
    query_inputs: torch.Tensor,
    query_targets: torch.Tensor,
    at_once: int = 64,
) -> torch.Tensor:
    """L_V with the sample minus L_V without it, by plain SGD from the same start in the same order.

    Removing a sample takes its weight in its batches from 1 to 0; the divisor B stays. Runs are trained side
    by side, as one batch of parameters.

    Args:
        start: θ_0. inputs [N, …], targets [N, …].
        order: rows of each step's batch, int64 [T, B].
        rates: η of each step, T of them.
        removed: R rows, one run each.
        at_once: runs side by side.

    Returns:
        [R] float64, positive = harmful.
    """

    def train(without: torch.Tensor) -> torch.Tensor:
        params = start
        for rows, rate in zip(order, rates, strict=True):
            weight = (rows != without).to(inputs.dtype)
            params = combine(params, -rate, grad(batch_loss)(params, rows, weight))
        return task.losses(params, buffers, query_inputs, query_targets).mean()

    def batch_loss(params: Tensors, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return (task.losses(params, buffers, inputs[rows], targets[rows]) * weight).mean()

    runs = torch.tensor([-1, *removed], device=order.device)  # no row is -1: the run with all samples
    losses = torch.cat([vmap(train)(part) for part in torch.split(runs, at_once)]).double()
    return losses[0] - losses[1:]


def precision_at_k(scores: torch.Tensor, truth: torch.Tensor, k: int) -> float:
    """Share of true ones among the k highest `scores` [N], ties by index; `truth` [N] bool."""
    top = torch.sort(scores, descending=True, stable=True).indices[:k]
    return float(truth[top].double().mean())


def roc_auc(scores: torch.Tensor, truth: torch.Tensor) -> float:
    """Probability that a true one scores higher than a false one, ties counting half; `truth` [N] bool.

    Raises:
        ValueError: all are true, or none is.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if positives == 0 or negatives == 0:
        raise ValueError("The area under the ROC curve takes both true and false ones")
    excess = ranks(scores)[truth].sum() - positives * (positives + 1) / 2
    return float(excess / (positives * negatives))


def spearman(a: torch.Tensor, b: torch.Tensor) -> float:
    """Rank correlation of `a` [N] and `b` [N], ties sharing their mean rank; NaN where one is constant."""
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / (x.norm() * y.norm()))


def ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks from 1, float64 [N], ties sharing their mean rank."""
    _, group, sizes = torch.unique(values, return_inverse=True, return_counts=True)
    last = sizes.cumsum(0).double()
    shared: torch.Tensor = (last - (sizes.double() - 1) / 2)[group]
    return shared
