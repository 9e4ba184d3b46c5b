"""How far two rankings of the same samples agree: rank correlations, and what their ends have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.store.scores import ranks

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def spearman(a: Floats, b: Floats) -> float | None:
    """Spearman's ρ of scores [N] and [N]: Pearson's r of their ranks, ties sharing their mean rank.

    None where one of the two is the same for all samples.
    """
    x, y = _mean_ranks(a), _mean_ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return None if scale == 0 else float(np.clip((x @ y) / scale, -1, 1))


def kendall(a: Floats, b: Floats) -> float | None:
    """Kendall's τ-b = (C - D) / √((P - A)(P - B)) of scores [N] and [N], in O(N log N).

    Of the P = N(N - 1)/2 pairs C are ordered alike by both, D the other way round; A and B are tied in a and
    in b. None where one of the two is the same for all samples.
    """
    x, y = _dense(a), _dense(b)
    order = np.lexsort((y, x))
    pairs = len(x) * (len(x) - 1) // 2
    tied_x, tied_y, tied_both = _tied(x), _tied(y), _tied(x * (int(y.max()) + 1) + y)
    scale = float(pairs - tied_x) * float(pairs - tied_y)
    if scale == 0:
        return None
    agreeing = pairs - tied_x - tied_y + tied_both - 2 * _inversions(y[order])
    return float(np.clip(agreeing / scale**0.5, -1, 1))


def shared(a: Floats, b: Floats, tops: Sequence[int]) -> list[dict[str, float]]:
    """For each k which share of the k most harmful, and of the k most helpful, the two have in common."""
    found: list[dict[str, float]] = [{"k": k} for k in tops]
    for side, sign in (("harmful", 1), ("helpful", -1)):
        worse = np.maximum(*(ranks(sign * one) for one in (a, b)))  # within the top k of both
        for one in found:
            one[side] = float((worse <= one["k"]).sum() / one["k"])
    return found


def _mean_ranks(values: Floats) -> Floats:
    order = np.argsort(values, kind="stable")
    first = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
    counts = np.diff(first, append=len(values))
    found = np.empty(len(values))
    found[order] = np.repeat(first + (counts - 1) / 2, counts)
    return found


def _dense(values: Floats) -> Integers:
    """Equal values by one number, greater ones by greater numbers."""
    found: Integers = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return found


def _tied(values: Integers) -> int:
    """How many pairs have the same value."""
    counts = np.unique(values, return_counts=True)[1].astype(object)  # of any size
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: Integers) -> int:
    """How many pairs i < j have values[i] > values[j].

    Such a pair first differs in one bit. So bit by bit, the highest first: among the values that agree in all
    higher bits, which lie side by side in their order, each 0 makes a pair with every 1 before it.
    """
    found = 0
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        ones = (values >> bit) & 1
        before = np.cumsum(ones) - ones
        begins = np.flatnonzero(np.diff(values >> (bit + 1), prepend=-1) != 0)
        lengths = np.diff(begins, append=len(values))
        before -= np.repeat(before[begins], lengths)
        found += int(before[ones == 0].sum())
        values = values[np.argsort(values >> bit, kind="stable")]
    return found
