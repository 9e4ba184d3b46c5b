"""Which samples to take by a number each: the most, or a fair share of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def most(values: Floats, size: int) -> Ints:
    """Indices of the `size` highest values [N], highest first, ties by index; NaN comes last."""
    order = np.lexsort((np.arange(len(values)), -np.where(np.isnan(values), -np.inf, values)))
    return order[:size]


def drawn(weights: Floats, seed: int) -> Floats:
    """Numbers [N] whose k highest are k samples drawn without replacement, by these weights [N], for any k.

    log weight + Gumbel noise (Efraimidis and Spirakis's reservoir, in logarithms).
    """
    noise = np.random.default_rng(seed).gumbel(size=len(weights))
    found: Floats = np.log(np.maximum(weights, np.finfo(np.float64).tiny)) + noise
    return found


def postponed(harm: Floats, late: Bools) -> Floats:
    """Places [N] in the order of `harm` [N], lowest first, ties by index, those that are `late` last."""
    order = np.lexsort((np.arange(len(harm)), harm, late))
    places = np.empty(len(harm), dtype=np.float64)
    places[order] = np.arange(len(harm))
    return places


def coreset(harm: Floats, size: int, labels: Floats | None = None) -> Ints:
    """Indices of `size` samples to keep, the least harmful first.

    Args:
        harm: [N], the higher the sooner it goes.
        labels: [N] classes to keep fairly (`quotas`); None: whatever their classes.
    """
    if labels is None:
        return most(-harm, size)
    classes, which = np.unique(labels, return_inverse=True)
    counts = np.bincount(which, minlength=len(classes))
    kept = [
        rows[most(-harm[rows], quota)]
        for rows, quota in (
            (np.flatnonzero(which == number), quota) for number, quota in enumerate(quotas(counts, size))
        )
    ]
    together = np.sort(np.concatenate(kept))
    return together[most(-harm[together], size)]


def quotas(counts: Ints, size: int) -> Ints:
    """How many to keep of each class: `size` in all, in proportion to the classes' counts [C].

    Rare classes are protected: each class has at least half of an equal share, size/(2C), or all there is of
    it. What is left goes by proportion among the rest, whole numbers by the largest remainders.
    """
    counts = np.asarray(counts, dtype=np.int64)
    floor = np.minimum(counts, size // (2 * len(counts)))
    open_ = np.ones(len(counts), dtype=bool)  # classes that a share in proportion lifts above their floor
    while True:
        left = size - int(floor[~open_].sum())
        share = np.where(open_, left * counts / max(1, int(counts[open_].sum())), floor)
        short = open_ & (share < floor)
        if not short.any():
            break
        open_ &= ~short
    found = np.minimum(np.floor(share).astype(np.int64), counts)
    remainder = np.where(found < counts, share - found, -1.0)
    for number in np.lexsort((np.arange(len(counts)), -remainder))[: size - int(found.sum())]:
        found[number] += 1
    return found
