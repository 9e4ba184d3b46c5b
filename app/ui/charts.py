"""Figures of a job's scores as geometry that templates draw in SVG: no script, no library.

Scores of influence crowd around 0 with long tails either way, so their axis is asinh(x / s), s the median
|score|: linear near 0, logarithmic far out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.store.columns import Columns

Floats = NDArray[np.float64]

BINS = 80
ENOUGH = 50_000  # values for a median that only bends an axis
POINTS = 1200  # of a scatter: more hide each other
EXTREMES = 100  # of them from either end of the ranking
SHADES = 8
MOST_CLASSES = 20  # of a confusion table; beyond it the pairs that are confused most


class Axis(NamedTuple):
    """A scale from `low` to `high` onto 0 to 1: asinh(x / bend), or linear where bend is 0."""

    low: float
    high: float
    bend: float

    @classmethod
    def of(cls, values: Floats, *, bent: bool) -> Axis:
        """The axis that holds all finite values, with a little room for a single one."""
        finite = _finite(values)
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        if low == high:
            low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
        some = np.abs(finite[:: max(1, len(finite) // ENOUGH)])
        bend = float(np.median(some[some > 0])) if bent and np.any(some > 0) else 0.0
        return cls(low, high, bend)

    def place(self, values: Floats) -> Floats:
        """Where values lie, from 0 to 1."""
        if not self.bend:
            return np.asarray((values - self.low) / (self.high - self.low))
        start, end = math.asinh(self.low / self.bend), math.asinh(self.high / self.bend)
        return np.asarray((np.arcsinh(values / self.bend) - start) / (end - start))

    def value(self, place: float) -> float:
        """What lies at a place from 0 to 1."""
        if not self.bend:
            return self.low + place * (self.high - self.low)
        start, end = math.asinh(self.low / self.bend), math.asinh(self.high / self.bend)
        return self.bend * math.sinh(start + place * (end - start))


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram: its height from 0 to 1 grows with the logarithm of its count."""

    low: float
    high: float
    count: int
    height: float


class Histogram(NamedTuple):
    """Bars side by side on an axis, and where 0 lies on it, if it does."""

    axis: Axis
    bars: list[Bar]
    zero: float | None


def _finite(values: Floats) -> Floats:
    """The finite ones; no copy where all are."""
    known = np.isfinite(values)
    return values if known.all() else values[known]


def histogram(values: Floats, *, bent: bool) -> Histogram:
    """Counts of finite values in bars of equal width on their axis."""
    axis = Axis.of(values, bent=bent)
    places = axis.place(_finite(values))
    counts = np.bincount(np.clip((places * BINS).astype(np.int64), 0, BINS - 1), minlength=BINS)
    top = math.log1p(int(counts.max(initial=1)))
    edges = [axis.value(at / BINS) for at in range(BINS + 1)]
    bars = [
        Bar(edges[at], edges[at + 1], int(count), math.log1p(count) / top) for at, count in enumerate(counts)
    ]
    zero = float(axis.place(np.zeros(1))[0]) if axis.low < 0 < axis.high else None
    return Histogram(axis, bars, zero)


def distinct(values: Floats, most: int) -> list[float]:
    """The finite values that occur, ascending, so long as they are no more than `most`; else none."""
    known = values[np.isfinite(values)]
    if len(known) and float(known.max()) - float(known.min()) < most and not np.any(known % 1):
        start = int(known.min())  # classes by number: counting takes a tenth of the time of sorting
        return [float(start + at) for at in np.flatnonzero(np.bincount((known - start).astype(np.int64)))]
    found = np.unique(known)
    return found.tolist() if len(found) <= most else []


def whole(values: Floats) -> bool:
    """Whether there are finite values, all of them whole."""
    known = values[np.isfinite(values)]
    return len(known) > 0 and not np.any(known % 1)


class Confusion(NamedTuple):
    """How often each given label is predicted as each: `cells` [given][predicted] of (count, shade), or the
    `pairs` that are confused most, where classes are many; `shade` from 0 to SHADES.
    """

    labels: list[float]
    cells: list[list[tuple[int, int]]]
    pairs: list[tuple[float, float, int]]


def confusion(columns: Columns) -> Confusion | None:
    """Given against predicted labels; None where there are none."""
    given, predicted = columns["label"], columns["predicted_label"]
    known = np.isfinite(given) & np.isfinite(predicted)
    if not known.any():
        return None
    labels, numbers = np.unique(np.concatenate([given[known], predicted[known]]), return_inverse=True)
    rows, across = np.split(numbers, 2)
    counts: dict[tuple[int, int], int] = {}
    pairs, how_often = np.unique(rows * len(labels) + across, return_counts=True)
    for pair, count in zip(pairs.tolist(), how_often.tolist(), strict=True):
        counts[divmod(pair, len(labels))] = count
    wrong = sorted(((n, *pair) for pair, n in counts.items() if pair[0] != pair[1]), reverse=True)
    told = [(float(labels[a]), float(labels[b]), n) for n, a, b in wrong[:50]]
    if len(labels) > MOST_CLASSES:
        return Confusion(labels.tolist(), [], told)
    most = wrong[0][0] if wrong else 1
    cells = [
        [
            (n := counts.get((a, b), 0), 0 if a == b or not n else max(1, round(SHADES * n / most)))
            for b in range(len(labels))
        ]
        for a in range(len(labels))
    ]
    return Confusion(labels.tolist(), cells, told)


@dataclass(frozen=True)
class Point:
    """A sample in a scatter: x and y from 0 to 1."""

    index: int
    x: float
    y: float
    score: float
    loss: float
    agrees: bool


class Scatter(NamedTuple):
    """Some samples by score and loss, the extremes of the ranking all among them."""

    across: Axis
    up: Axis
    points: list[Point]
    total: int


def scatter(columns: Columns) -> Scatter:
    """Score against loss: high in both is a sample that the model cannot fit and should not."""
    score, loss = columns["score"], columns["loss"]
    across, up = Axis.of(score, bent=True), Axis.of(loss, bent=True)
    n = len(columns)
    if n <= POINTS:
        chosen = np.arange(n)
    else:
        ends = columns.page("harmful", None, 0, EXTREMES) + columns.page("helpful", None, 0, EXTREMES)
        others = np.random.default_rng(0).choice(n, POINTS - len(ends), replace=False)
        chosen = np.unique(np.concatenate([np.array(ends), others]))
    finite = chosen[np.isfinite(score[chosen]) & np.isfinite(loss[chosen])]
    x, y = across.place(score[finite]), up.place(loss[finite])
    agrees = columns["label"][finite] == columns["predicted_label"][finite]
    points = [
        Point(int(i), float(a), float(b), float(score[i]), float(loss[i]), bool(same))
        for i, a, b, same in zip(finite, x, y, agrees, strict=True)
    ]
    return Scatter(across, up, points, n)


class Course(NamedTuple):
    """What happened to one sample over training: a bar a checkpoint, from `base` up (it hurt) or down (it
    helped), and its loss as a line. Places run from 0 to 1.
    """

    bars: list[tuple[float, float, float]]  # (top, height, contribution)
    base: float
    line: list[tuple[float, float]]
    most: float
    highest_loss: float


def course(contributions: Sequence[float], losses: Sequence[float | None]) -> Course:
    """The bars and the line of one sample, checkpoint by checkpoint."""
    up, down = max(0.0, *contributions), -min(0.0, *contributions)
    span = up + down or 1.0
    base = up / span
    bars = [((base - part / span) if part > 0 else base, abs(part) / span, part) for part in contributions]
    known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    top = max(known, default=0.0) or 1.0
    n = max(1, len(losses))
    line = [
        ((at + 0.5) / n, 1 - loss / top)
        for at, loss in enumerate(losses)
        if loss is not None and math.isfinite(loss)
    ]
    return Course(bars, base, line, max(up, down), max(known, default=0.0))
