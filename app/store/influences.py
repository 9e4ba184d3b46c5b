"""Influences on single query samples: the whole matrix, and the strongest of each column, as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.store.columns import ranked as places

Side = Literal["opponents", "proponents"]
TOGETHER = 64
SIDES: tuple[Side, ...] = ("opponents", "proponents")


class Ranked(NamedTuple):
    """One training sample behind a query; rank 1 is the strongest of its side."""

    rank: int
    sample_index: int
    score: float


def strongest(matrix: NDArray[np.float32], queries: NDArray[np.int64], top: int) -> NDArray[Any]:
    """Of each column of `matrix` [N, K] the `top` highest (opponents) and lowest (proponents), ties by index.

    Args:
        queries: the columns' indices in the query data set, [K].

    Returns:
        [K] records {query, samples [2, top], scores [2, top]}, opponents first.
    """
    top = min(top, len(matrix))
    found = np.empty(len(queries), dtype=_records(top))
    found["query"] = queries
    for column in range(len(queries)):
        if column % TOGETHER == 0:  # rows lie together in the file: a column at a time would read it all
            columns = np.ascontiguousarray(matrix[:, column : column + TOGETHER].T, dtype=np.float64)
        scores = columns[column % TOGETHER]
        for side, key in enumerate((-scores, scores)):
            rows = places(key, 0, top)
            found["samples"][column, side] = rows
            found["scores"][column, side] = scores[rows]
    return found


def queries(path: Path) -> NDArray[np.int64]:
    """Of each column its index in the query data set, [K], from the file of what is `strongest`."""
    asked: NDArray[np.int64] = np.array(np.load(path, mmap_mode="r", allow_pickle=False)["query"])
    return asked


def ranked(path: Path, query_index: int, side: Side, after: int = 0) -> Iterator[Ranked] | None:
    """The training samples behind a query past rank `after`, strongest first; None for a query not asked."""
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    at = np.flatnonzero(found["query"] == query_index)
    if not len(at):
        return None
    row, which = found[at[0]], SIDES.index(side)
    pairs = zip(row["samples"][which][after:].tolist(), row["scores"][which][after:].tolist(), strict=True)
    return (Ranked(rank, sample, score) for rank, (sample, score) in enumerate(pairs, start=after + 1))


def _records(top: int) -> np.dtype[Any]:
    return np.dtype([("query", "<i8"), ("samples", "<i8", (2, top)), ("scores", "<f8", (2, top))])
