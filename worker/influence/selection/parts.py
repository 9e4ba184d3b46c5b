"""A data set seen in part, or with other labels: what is left to train on after a selection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from worker.influence.trajectory import Data


class Part:
    """The rows of a data set that are taken, some with another label.

    Args:
        rows: in this order; None: all.
        labels: by row of the whole data set.
    """

    def __init__(
        self, data: Data, rows: Sequence[int] | None, labels: Mapping[int, float] | None = None
    ) -> None:
        self._data, self._labels = data, labels or {}
        self._rows: Sequence[int] = range(len(data)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs, targets) of `rows` of the part (None: all), in order, `size` samples at a time."""
        wanted = [self._rows[row] for row in (range(len(self)) if rows is None else rows)]
        start = 0
        for inputs, targets in self._data.chunks(size, wanted):
            here = wanted[start : start + len(inputs)]
            start += len(inputs)
            yield inputs, self._relabelled(targets, here)

    def _relabelled(self, targets: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        places = [place for place, row in enumerate(rows) if row in self._labels]
        if not places:
            return targets
        changed = targets.clone()
        for place in places:
            changed[place] = self._labels[rows[place]]
        return changed
