"""How well scores agree with what retraining showed: correlations and their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Sampling = Literal["random", "mixed"]

RESAMPLES, LEVEL = 2000, 0.95
FEWEST = 3  # pairs that a correlation says anything of


@dataclass(frozen=True)
class Agreement:
    """Figures over n pairs (predicted, true); NaN where one side does not vary or is not
    finite, or where there are hardly any.

    Attributes:
        spearman, pearson: with bootstrap intervals (95%, percentiles) over the pairs.
        slope: of the true on the predicted, by least squares: 1 where sizes are right.
        relative_error: median of |predicted - true| / |true|.
    """

    n: int
    spearman: float
    spearman_interval: Interval
    pearson: float
    pearson_interval: Interval
    slope: float
    relative_error: float


def agreement(predicted: Floats, true: Floats, weights: Floats | None = None, *, seed: int = 0) -> Agreement:
    """Compares predictions [n] with the truth [n].

    Args:
        weights: how many samples of the population each pair stands for (`choose`), [n]; None: as many each.
        seed: of the bootstrap, which draws pairs with replacement.
    """
    n, nothing = len(predicted), float("nan")
    if n < FEWEST or not np.isfinite(predicted).all():
        return Agreement(n, nothing, (nothing, nothing), nothing, (nothing, nothing), nothing, nothing)
    each = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    drawn = np.vstack([np.ones(n), counts]) * each  # the first row: all pairs as they are
    a, b = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    spearman = _correlation(_ranks(a, drawn), _ranks(b, drawn), drawn)
    pearson = _correlation(a[None], b[None], drawn)
    centred = a - np.average(a, weights=each)
    spread = float((each * centred**2).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = float((each * centred * b).sum()) / spread if spread else float("nan")
        error = float(np.median(np.abs(a - b) / np.abs(b)))
    return Agreement(
        n=n,
        spearman=float(spearman[0]),
        spearman_interval=_interval(spearman[1:]),
        pearson=float(pearson[0]),
        pearson_interval=_interval(pearson[1:]),
        slope=slope,
        relative_error=error,
    )


def choose(
    n: int, population: int, *, seed: int, sampling: Sampling = "random", scores: Floats | None = None
) -> tuple[list[int], list[float]]:
    """(rows to leave out, ascending; how many samples each stands for).

    "random": each sample is as likely. "mixed": half of them are those with the largest and the smallest of
    `scores` [N], as many of each, and half are drawn from the rest. Extremes alone would flatter every
    method: a correlation over a wider range is higher for the same errors. So each extreme stands for itself
    only, and each drawn one for its share of the rest.

    Raises:
        ValueError: more than there are, or "mixed" without scores.
    """
    if n > population:
        raise ValueError(f"{n} samples can't be chosen out of {population}")
    rng = np.random.default_rng(seed)
    extremes: list[int] = []
    if sampling == "mixed":
        if scores is None:
            raise ValueError("The extremes are chosen by scores: there are none")
        by_score, each = np.argsort(scores, kind="stable"), n // 4
        extremes = [*by_score[:each].tolist(), *by_score[population - each :].tolist()]
    rest = np.setdiff1d(np.arange(population), extremes)
    drawn = rng.choice(rest, n - len(extremes), replace=False)
    stands_for = dict.fromkeys(extremes, 1.0) | dict.fromkeys(drawn.tolist(), len(rest) / max(1, len(drawn)))
    rows = sorted(stands_for)
    return rows, [stands_for[row] for row in rows]


def reliability(effects: Floats) -> tuple[float, float]:
    """(mean Spearman between two orders, reliability of the mean over all k) of effects [k, n].

    The latter by Spearman and Brown, k·r / (1 + (k - 1)·r): the correlation to expect between this mean and
    one over k other orders. No score can be expected to correlate with it better than its square root.
    """
    k, one = len(effects), np.ones((1, effects.shape[1]))
    ranked = [_ranks(row, one) for row in effects]
    pairs = [float(_correlation(ranked[i], ranked[j], one)[0]) for i in range(k) for j in range(i)]
    r = float(np.mean(pairs))
    return r, max(0.0, k * r / (1 + (k - 1) * r)) if r > -1 / (k - 1) else 0.0


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Mid-ranks of values [n] where each counts as often as `weights` [R, n] say: [R, n]."""
    order = np.argsort(values, kind="stable")
    sorted_values = values[order]
    heavy = np.cumsum(weights[:, order], axis=1)
    first = np.searchsorted(sorted_values, values, side="left")
    last = np.searchsorted(sorted_values, values, side="right") - 1
    below = np.concatenate([np.zeros((len(weights), 1)), heavy], axis=1)[:, first]
    ranks: Floats = (below + heavy[:, last]) / 2
    return ranks


def _correlation(a: Floats, b: Floats, weights: Floats) -> Floats:
    """Weighted correlation of each row, [R] (`a`, `b`: [R, n] or [1, n]); NaN where one is constant."""
    total = weights.sum(1, keepdims=True)
    x, y = (v - (weights * v).sum(1, keepdims=True) / total for v in (a, b))
    xx, yy, xy = ((weights * p).sum(1) for p in (x * x, y * y, x * y))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.where((xx > 0) & (yy > 0), xy / np.sqrt(xx * yy), np.nan)
    return found


def _interval(figures: Floats) -> Interval:
    known = figures[np.isfinite(figures)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
