"""Means with their intervals as geometry that a template draws: what retraining before and after showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Line:
    """One side: its mean, its interval if there is one, each run; places from 0 to 1."""

    name: str
    mean: float
    interval: tuple[float, float] | None
    place: float
    low: float
    high: float
    each: list[float]


class Lines(NamedTuple):
    """Sides on one axis from `least` to `most`, and where 0 lies on it, if it does."""

    least: float
    most: float
    zero: float | None
    lines: list[Line]


def drawn(named: Sequence[tuple[str, dict[str, Any]]], *, zero: bool = False) -> Lines:
    """The lines of summaries {mean, interval, each}; with `zero`, the axis reaches to 0."""
    known = [0.0] if zero else []
    for _, one in named:
        known += [one["mean"], *one["each"], *(one["interval"] or ())]
    least, most = min(known), max(known)
    room = (most - least) * 0.05 or abs(most) * 0.05 or 1.0
    least, most = least - room, most + room

    def place(value: float) -> float:
        return (value - least) / (most - least)

    lines = []
    for name, one in named:
        low, high = one["interval"] or (one["mean"], one["mean"])
        interval = (low, high) if one["interval"] else None
        dots = [place(value) for value in one["each"]]
        lines.append(Line(name, one["mean"], interval, place(one["mean"]), place(low), place(high), dots))
    return Lines(least, most, place(0.0) if least < 0 < most else None, lines)


class Compared(NamedTuple):
    """A figure before and after, and their difference, each on its axis; whether it changed for sure."""

    name: str
    sides: Lines
    difference: Lines
    changed: bool


def compared(name: str, figures: dict[str, Any] | None) -> Compared | None:
    """What `verify` found of one figure; None where it is unknown."""
    if figures is None:
        return None
    sides = drawn([(side, figures[side]) for side in ("before", "after")])
    interval = figures["difference"]["interval"]
    changed = interval is not None and bool(np.sign(interval[0]) == np.sign(interval[1]) != 0)
    return Compared(name, sides, drawn([("difference", figures["difference"])], zero=True), changed)
