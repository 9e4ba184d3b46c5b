"""A run's training loss in few points, gathered unit by unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_POINTS = 200
Bins = dict[str, list[float]]  # as JSON has it: by the bin's number, [sum of losses, how many]


def binned(losses: Sequence[float], start: int, total: int) -> Bins:
    """The losses of the batches of step `start` and those after it, added up by bin.

    Args:
        total: steps of the whole run, which falls into MOST_POINTS bins at most.
    """
    bins: Bins = {}
    for step, loss in enumerate(losses, start=start):
        held = bins.setdefault(str(_bin(step, total)), [0.0, 0])
        held[0] += loss
        held[1] += 1
    return bins


def points(units: Sequence[Mapping[str, Sequence[float]]], total: int) -> list[dict[str, Any]]:
    """[{step, loss}]: the mean loss of the batches up to `step` since the point before."""
    count = min(MOST_POINTS, total)
    sums = [[0.0, 0.0] for _ in range(count)]
    for unit in units:
        for number, (added, many) in unit.items():
            sums[int(number)][0] += added
            sums[int(number)][1] += many
    ends = [-(-total * (number + 1) // count) for number in range(count)]
    return [{"step": end, "loss": added / many} for end, (added, many) in zip(ends, sums, strict=True)]


def _bin(step: int, total: int) -> int:
    return step * min(MOST_POINTS, total) // total
