"""The numbers of a job's scores side by side, for whoever looks at all samples at once: filters and charts.

One `.npy` a job, float64 [C, N] by sample index, NaN for nulls: what takes a database seconds to count over a
million rows takes milliseconds here. The rows of the table stay the truth, and this follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.store import scores
from app.store.blobs import BlobStore
from app.store.tables import ScoreColumns

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

NAMES = ("score", "rank", "label", "predicted_label", "loss", "suspicion", "self_influence")
KEYS = {  # order → (column, whether it falls); ties by index
    "harmful": ("rank", False),
    "helpful": ("score", False),
    "suspicion": ("suspicion", True),
    "self_influence": ("self_influence", True),
}


class Filter(NamedTuple):
    """Which samples: of these labels, with `by` from `least` to `most`, where given and predicted differ."""

    label: float | None = None
    predicted: float | None = None
    differing: bool = False
    by: str = "score"
    least: float | None = None
    most: float | None = None


class Columns:
    """The columns of one job, by name; read where they are looked at."""

    def __init__(self, table: Floats) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.shape[1])

    def __getitem__(self, name: str) -> Floats:
        """The column [N]."""
        column: Floats = self._table[NAMES.index(name)]
        return column

    def passing(self, wanted: Filter) -> Indices | None:
        """The samples that pass, by index; None when the filter lets every one through."""
        masks = []
        if wanted.label is not None:
            masks.append(self["label"] == wanted.label)
        if wanted.predicted is not None:
            masks.append(self["predicted_label"] == wanted.predicted)
        if wanted.differing:
            masks.append(self["label"] != self["predicted_label"])
        if wanted.least is not None:
            masks.append(self[wanted.by] >= wanted.least)
        if wanted.most is not None:
            masks.append(self[wanted.by] <= wanted.most)
        return np.flatnonzero(np.logical_and.reduce(masks)) if masks else None

    def page(self, order: str, passing: Indices | None, start: int, limit: int) -> list[int]:
        """`limit` of the samples that pass, from place `start` on, in the order that `orders.page` has."""
        if order == "index":
            found = np.arange(start, min(start + limit, len(self))) if passing is None else passing[start:]
            return [int(one) for one in found[:limit]]
        name, falling = KEYS[order]
        key = self[name] if passing is None else self[name][passing]
        rows = ranked(-key if falling else key, start, start + limit)
        return [int(one) for one in (rows if passing is None else passing[rows])]

    def place(self, order: str, passing: Indices | None, index: int) -> int | None:
        """Where a sample stands among those that pass, from 0; None where it is not among them."""
        if passing is not None and (at := int(np.searchsorted(passing, index))) >= len(passing):
            return None
        if passing is not None and passing[at] != index:
            return None
        if order == "index":
            return index if passing is None else at
        name, falling = KEYS[order]
        key = self[name] if passing is None else self[name][passing]
        key, here = (-key if falling else key), index if passing is None else at
        return int(np.count_nonzero(key < key[here]) + np.count_nonzero(key[:here] == key[here]))


def ranked(key: NDArray[Any], start: int, stop: int) -> Indices:
    """Places of the values that come from `start` to `stop` when they are sorted, ties by place.

    Only those between the two are sorted: the last page of a million takes no longer than the first.
    """
    stop = min(stop, len(key))
    if start >= stop:
        return np.empty(0, dtype=np.int64)
    low, high = np.partition(key, (start, stop - 1))[[start, stop - 1]]
    rows = np.flatnonzero((key >= low) & (key <= high))  # in a tie at either end more than are wanted
    rows = rows[np.argsort(key[rows], kind="stable")]
    skipped = start - int(np.count_nonzero(key < low))
    return rows[skipped : skipped + stop - start]


def write(path: Path, columns: Mapping[str, Any]) -> None:
    """Writes the columns of a job, each [N] or None for nulls."""
    table = np.empty((len(NAMES), len(columns["score"])))
    for at, name in enumerate(NAMES):
        table[at] = np.nan if columns.get(name) is None else columns[name]
    with path.open("wb") as file:  # np.save adds a suffix to a path that has none
        np.save(file, table)


def keep(session: Session, blobs: BlobStore, job_id: str, staged: Path) -> None:
    """Keeps a staged file as the job's columns."""
    session.add(ScoreColumns(job_id=job_id, blob=blobs.keep(session, staged)))


def of(session: Session, blobs: BlobStore, job_id: str) -> Columns:
    """The columns of a job that has scores; from the table for a job of before they were kept."""
    kept = session.get(ScoreColumns, job_id)
    if kept is not None:
        return Columns(np.load(blobs.path(session, kept.blob), mmap_mode="r", allow_pickle=False))
    found = scores.arrays(session, job_id, *NAMES)
    return Columns(np.stack([found[name] for name in NAMES]))


def drop(session: Session, blobs: BlobStore, job_id: str) -> None:
    """Deletes a job's columns."""
    kept = session.get(ScoreColumns, job_id)
    if kept is not None:
        session.delete(kept)
        blobs.forget(session, kept.blob)
