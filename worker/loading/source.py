"""An array in a stranger's file, its header checked, its data still on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

Block = np.ndarray[Any, np.dtype[Any]]

BLOCK_BYTES = 8 * 1024**2
MOST_DIMENSIONS = 8
MOST_SAMPLE_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Source:
    """`blocks(rows)` reads the array in order, `rows` rows at a time: [≤ rows, *shape[1:]] of `dtype`."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[int], Iterator[Block]]

    @property
    def rows_per_block(self) -> int:
        return max(1, BLOCK_BYTES // max(1, prod(self.shape[1:]) * max(4, self.dtype.itemsize)))


def ranges(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of each run of at most `size` out of `total`."""
    for start in range(0, total, size):
        yield start, min(size, total - start)
