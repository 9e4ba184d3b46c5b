"""The scores of a job in figures, from its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.store.columns import Columns, Floats


def moments(scores: Floats) -> dict[str, float]:
    """mean, std (of the whole, by n), min and max of [N]."""
    return {name: float(getattr(scores, name)()) for name in ("mean", "std", "min", "max")}


def quantiles(scores: Floats, shares: Sequence[float]) -> list[float]:
    """The score below which each share lies, interpolated between its neighbours."""
    return [float(one) for one in np.quantile(scores, shares)]


def histogram(scores: Floats, bins: int) -> tuple[list[float], list[int]]:
    """(edges, counts) of bins of equal width from the lowest score to the highest; of width 1 where all are
    alike.
    """
    low, high = float(scores.min()), float(scores.max())
    counts, edges = np.histogram(scores, bins, range=(low, high if high > low else low + bins))
    return edges.tolist(), counts.tolist()


def by_class(columns: Columns) -> list[dict[str, Any]]:
    """Of each given label, by label: count, mean score, mean loss, harmful samples, and samples predicted
    otherwise.
    """
    known = np.isfinite(columns["label"])
    score, loss, given, predicted = (
        columns[name][known] for name in ("score", "loss", "label", "predicted_label")
    )
    labels, place, count = np.unique(given, return_inverse=True, return_counts=True)
    sums = [np.bincount(place, one) for one in (score, loss, score > 0, given != predicted)]
    return [
        {
            "label": float(label),
            "count": int(n),
            "mean_score": float(a / n),
            "mean_loss": float(b / n),
            "harmful": int(c),
            "differing": int(d),
        }
        for label, n, a, b, c, d in zip(labels, count, *sums, strict=True)
    ]
