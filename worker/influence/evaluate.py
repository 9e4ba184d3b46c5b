"""Figures that compare a ranking with the truth."""

from __future__ import annotations

import torch


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
