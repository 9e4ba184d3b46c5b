"""Is a score true? Retraining without a sample, and figures that compare one ranking with another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.func import grad, vmap

from worker.influence.order import UNUSED
from worker.influence.task import Task, Tensors

Optimizer = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


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
    optimizer: Optimizer = torch.optim.SGD,
    at_once: int = 64,
) -> torch.Tensor:
    """L_V with the sample minus L_V without it, trained from the same start in the same order.

    Removing a sample takes its weight in its batches from 1 to 0; the divisor B stays.

    Args:
        start: θ_0. inputs [N, …], targets [N, …].
        removed: R rows, one run each.
        order, rates, optimizer, at_once: as in `retrain`.

    Returns:
        [R] float64, positive = harmful.
    """
    runs = torch.tensor([UNUSED, *removed], device=inputs.device)  # no row is that: the run with all samples
    weights = torch.arange(len(inputs), device=inputs.device) != runs[:, None]
    starts = {name: t.expand(len(runs), *t.shape) for name, t in start.items()}
    losses = retrain(
        task, starts, buffers, inputs, targets, order=order, rates=rates, weights=weights,
        query_inputs=query_inputs, query_targets=query_targets, optimizer=optimizer, at_once=at_once,
    ).double().mean(1)  # fmt: skip
    return losses[0] - losses[1:]


def retrain(
    task: Task,
    starts: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    order: torch.Tensor,
    rates: Sequence[float],
    query_inputs: torch.Tensor,
    query_targets: torch.Tensor,
    weights: torch.Tensor | None = None,
    optimizer: Optimizer = torch.optim.SGD,
    at_once: int = 64,
) -> torch.Tensor:
    """Query losses after R training runs, side by side as one batch of parameters.

    Args:
        starts: θ_0 of each run, tensors [R, …]. inputs [N, …], targets [N, …].
        order: rows of each step's batch, int64 [T, B], or [R, T, B] where each run has its own; -1 fills
            batches that are shorter.
        rates: η of each step, T of them.
        weights: of each sample in its batches, [R, N]; None: 1. The divisor is the batch's size all the same.
        optimizer: makes torch's optimizer of the parameters; it must act on each number by itself, as SGD,
            Adam and AdamW do.
        at_once: runs side by side.

    Returns:
        [R, Q].
    """
    total = len(next(iter(starts.values())))
    parts = []
    for begin in range(0, total, at_once):
        some = slice(begin, begin + at_once)
        params = {
            name: t[some].detach().clone(memory_format=torch.contiguous_format) for name, t in starts.items()
        }
        orders = order if order.dim() == 2 else order[some].transpose(0, 1)  # step first
        weight = None if weights is None else weights[some]
        _train(
            task, params, buffers, inputs, targets, orders, rates, weight, optimizer(list(params.values()))
        )
        ends = vmap(lambda p: task.losses(p, buffers, query_inputs, query_targets))
        parts.append(ends(params))
    return torch.cat(parts)


def _train(
    task: Task,
    params: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    order: torch.Tensor,
    rates: Sequence[float],
    weights: torch.Tensor | None,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Trains `params` [R, …] in place; order [T, B] or [T, R, B]."""

    def loss(params: Tensors, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return (task.losses(params, buffers, x, y) * weight).sum()

    own = 0 if order.dim() == 3 else None
    dtype = next(iter(params.values())).dtype
    gradients = vmap(grad(loss), in_dims=(0, own, own, own if weights is None else 0))
    for rows, rate in zip(order, rates, strict=True):
        used = rows != UNUSED
        weight = used / used.sum(-1, keepdim=True).to(dtype)
        if weights is not None:
            weight = weight * (weights[:, rows] if own is None else weights.gather(1, rows.clamp(min=0)))
        slopes = gradients(params, inputs[rows], targets[rows], weight)
        for name, param in params.items():
            param.grad = slopes[name]
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


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
