"""The samples of a selection as a file of rows: what to do with each, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.store.datasets import name_of
from app.store.scored import label_of

Action = Literal["keep", "remove", "relabel"]
Rows = NDArray[Any]

ACTIONS: tuple[Action, ...] = ("keep", "remove", "relabel")
COLUMNS = np.dtype(
    [
        ("sample_index", "<i8"),
        ("action", "u1"),
        ("score", "<f8"),
        ("suspicion", "<f8"),
        ("label", "<f8"),
        ("suggested_label", "<f8"),
        ("confidence", "<f8"),
        ("loss", "<f8"),
    ]
)


def rows(action: NDArray[np.uint8], columns: Mapping[str, Any]) -> Rows:
    """The rows of a selection, in the order given; a column that is left out is NaN.

    Args:
        action: of each sample, its place in ACTIONS, [n].
        columns: by name, each [n].
    """
    found = np.empty(len(action), dtype=COLUMNS)
    found["action"] = action
    for name in COLUMNS.names or ():
        if name != "action":
            values = columns.get(name)
            found[name] = np.nan if values is None else values
    return found


def write(path: Path, found: Rows) -> None:
    """Writes the rows as one `.npy`."""
    with path.open("wb") as file:  # np.save adds a suffix to a path that has none
        np.save(file, found)


def read(path: Path) -> Rows:
    """The rows, read when they are looked at."""
    found: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def parts(found: Rows, num_samples: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Rows]:
    """(indices to keep, ascending; indices to remove, ascending; rows to relabel, by index).

    Together they are all `num_samples` samples. Where the rows say what to keep, the rest is to remove.
    """
    index, action = np.asarray(found["sample_index"]), np.asarray(found["action"])
    keep, remove, relabel = (action == ACTIONS.index(one) for one in ACTIONS)
    named = np.zeros(num_samples, dtype=bool)
    named[index] = True
    rest = np.flatnonzero(~named)
    relabelled = np.asarray(found[relabel])
    relabelled = relabelled[np.argsort(relabelled["sample_index"])]
    if keep.any():
        return np.sort(index[keep]), np.sort(np.concatenate([index[remove], rest])), relabelled
    return rest, np.sort(index[remove]), relabelled


def told(found: np.void, sample_id: str | None, classes: Sequence[str] | None) -> dict[str, Any]:
    """The fields of a row as everybody is told of them: by the API page by page, in an export all at once."""
    value = {
        name: None if math.isnan(found[name]) else float(found[name])
        for name in ("suspicion", "label", "suggested_label", "confidence", "loss")
    }
    return {
        "sample_index": int(found["sample_index"]),
        "sample_id": sample_id,
        "action": ACTIONS[int(found["action"])],
        "score": float(found["score"]),
        "suspicion": value["suspicion"],
        "label": label_of(value["label"]),
        "label_name": name_of(classes, value["label"]),
        "suggested_label": label_of(value["suggested_label"]),
        "suggested_label_name": name_of(classes, value["suggested_label"]),
        "confidence": value["confidence"],
        "loss": value["loss"],
    }
