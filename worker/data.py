"""A stored data set as the engine reads it: chunks of network inputs and targets, read by rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from app.store.datasets import Arrays
from worker.influence.next_token import left_out
from worker.influence.preprocessing import Preprocessing
from worker.influence.task import Task
from worker.influence.trajectory import Data


class StoredData:
    """Rows of a data set, prepared for a network; `tick` is told of each chunk that was read."""

    def __init__(
        self,
        arrays: Arrays,
        preprocessing: Preprocessing,
        targets_dtype: torch.dtype,
        device: torch.device,
        *,
        rows: np.ndarray[Any, np.dtype[np.int64]] | None = None,
        tick: Callable[[int], None] = lambda samples: None,
    ) -> None:
        self._arrays, self._preprocessing, self._rows, self._tick = arrays, preprocessing, rows, tick
        self._targets_dtype, self._device = targets_dtype, device

    def __len__(self) -> int:
        return len(self._arrays) if self._rows is None else len(self._rows)

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs, targets) of `rows` (default: all), `size` samples at a time, in order."""
        wanted: Sequence[int] | range = range(len(self)) if rows is None else rows
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            yield self._read(part)
            self._tick(len(part))

    def _read(self, part: Sequence[int] | range) -> tuple[torch.Tensor, torch.Tensor]:
        if self._rows is None and isinstance(part, range) and part.step == 1:
            where: Any = slice(part.start, part.stop)
        else:
            where = np.asarray(part, dtype=np.int64)
            where = where if self._rows is None else self._rows[where]
        inputs = self._preprocessing(self._arrays.inputs[where], device=self._device)
        targets = torch.from_numpy(np.asarray(self._arrays.targets[where]))
        return inputs, targets.to(self._device, self._targets_dtype)


def prepared(
    arrays: Arrays,
    task: Task,
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    rows: np.ndarray[Any, np.dtype[np.int64]] | None = None,
    tick: Callable[[int], None] = lambda samples: None,
) -> Data:
    """Rows of a data set as the task's network and loss take them."""
    dtype = torch.int64 if task.whole_targets else torch.float32
    data = StoredData(arrays, preprocessing, dtype, device, rows=rows, tick=tick)
    return NextTokens(data, getattr(task.network, "pad_id", None)) if task.loss == "next_token" else data


class NextTokens:
    """`data` for a language model: of its targets, the samples' tokens, padding is left out."""

    def __init__(self, data: Data, pad_id: int | None) -> None:
        self._data, self._pad_id = data, pad_id

    def __len__(self) -> int:
        return len(self._data)

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs, targets) as `StoredData.chunks` gives them."""
        for inputs, targets in self._data.chunks(size, rows):
            yield inputs, left_out(inputs, targets, self._pad_id)


def selected(arrays: Arrays, query: dict[str, Any] | None) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Rows that a job's `query` ({labels} or {indices}) takes; None for all."""
    if not query:
        return None
    if query.get("labels") is not None:
        return np.flatnonzero(np.isin(np.asarray(arrays.targets), arrays.numbers(query["labels"])))
    return np.asarray(query["indices"], dtype=np.int64)
