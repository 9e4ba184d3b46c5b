"""Tables: numbers as they are, text with few values one-hot, missing values marked.

Of each column, in the order named:

- numbers: the value; a missing one becomes the column's mean, and, where the column has any missing, a second
  feature is 1 for it and 0 for the rest;
- text: one feature a value, in sorted order, 1 where the row has it; a missing value is 0 everywhere and 1 in
  a feature of its own, where the column has any.

Means, values and which columns have missing values are the training set's: a data set that is `like` another
takes them over. A value the other never saw is 0 everywhere, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from worker.loading.canonical import Layout
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import Block
from worker.loading.table import (
    Batch,
    Column,
    Table,
    at_rows,
    no_names,
    plain,
    refused_names,
    trimmed,
    value_kind,
)

MOST_VALUES = 256  # of a text column
MOST_FEATURES = 65_536
MOST = float(np.finfo(np.float32).max)
TAKEN_OVER = ("kind", "indicator", "mean", "std", "values")


class Features:
    """The columns of a table as one row of numbers."""

    def __init__(self, table: Table, columns: Sequence[str], like: Mapping[str, Any] | None) -> None:
        self.columns = tuple(columns)
        known = _known(self.columns, like)
        self._parts = [_Feature(name, table.is_untyped(name), known.get(name)) for name in self.columns]

    def scan(self, batch: Batch, start: int) -> None:
        for part in self._parts:
            part.scan(batch.column(part.name), start)

    def settle(self) -> Layout:
        width = 0
        for part in self._parts:
            width += part.settle(width)
        if width > MOST_FEATURES:
            raise LoadError(
                "shape_mismatch", f"The table comes to {width} features; {MOST_FEATURES} at most."
            )
        return Layout((width,), "float32")

    def encode(self, batch: Batch, start: int) -> Block:
        return np.concatenate([part.encode(batch.column(part.name), start) for part in self._parts], axis=1)

    @property
    def categories(self) -> bool:
        """Whether any column holds text."""
        return any(part.told["kind"] == "category" for part in self._parts)

    def told(self) -> dict[str, Any]:
        return {"kind": "table", "features": [part.told for part in self._parts]}


def _known(columns: Sequence[str], like: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """What the other data set settled, by column."""
    if like is None:
        return {}
    inputs = like.get("inputs") or {}
    features = inputs.get("features") if inputs.get("kind") == "table" else None
    if features is None:
        raise LoadError("unlike", "The data set that this one should be like is no table.")
    theirs = [one["column"] for one in features]
    if list(columns) != theirs:
        raise LoadError(
            "unlike",
            f"The inputs are {_list(columns)}, but those of the data set that this one should be like are "
            f"{_list(theirs)}: name the same columns in the same order.",
            [at("/columns/inputs", "are not those of the other data set")],
        )
    return {one["column"]: one for one in features}


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names[:20])) + (", …" if len(names) > 20 else "")


class _Feature:
    """One column. It is one of numbers until a value is none; `known` is what another data set settled."""

    def __init__(self, name: str, untyped: bool, known: dict[str, Any] | None) -> None:
        self.name, self._untyped, self._known = name, untyped, known
        self._kinds: set[str] = set()
        self._numeric = known is None or known["kind"] == "number"
        self._values: set[str] | None = set()
        self._no_names: dict[str, int] = {}  # and the rows that have them, should it be text
        self._count = self._missing = self._unseen = 0
        self._mean = self._square = 0.0  # Welford's, by blocks: the mean, and the sum of squared deviations
        self.told: dict[str, Any] = {}

    # ---- first pass
    def scan(self, column: Column, start: int) -> None:
        column = self._plain(column)
        values = self._numbers(column) if self._numeric else None
        if self._numeric and values is None:
            if self._known is not None:
                raise self._no_number(column, start)
            self._numeric = False
        if values is not None:
            self._scan_numbers(values, start)
        else:
            self._missing += column.null_count
        if value_kind(column.type) == "text":
            self._scan_text(column, start)

    def _scan_text(self, column: Column, start: int) -> None:
        """Also of what may still be numbers: a later row may show that it is text."""
        if self._known is not None:
            if not self._numeric:
                seen = pc.sum(pc.is_in(column, self._value_set())).as_py() or 0
                self._unseen += len(column) - column.null_count - seen
        elif self._values is not None:
            fresh = set(pc.unique(pc.drop_null(column)).to_pylist()) - self._values
            self._values |= fresh
            if len(self._values) > MOST_VALUES:
                self._values = None  # too many for a category; it may still be a number
            else:
                self._no_names |= no_names(column, fresh, start)

    def _no_number(self, column: Column, start: int) -> LoadError:
        rows = [
            start + i for i, one in enumerate(column.to_pylist()) if one is not None and not _is_number(one)
        ]
        return at_rows(
            "unlike", self.name, "holds text", rows, "In the data set that this one is like it holds numbers."
        )

    def _scan_numbers(self, values: Block, start: int) -> None:
        there = values[~np.isnan(values)]
        self._missing += len(values) - len(there)
        if np.isinf(there).any():
            rows = start + np.flatnonzero(np.isinf(values))
            raise at_rows(
                "non_finite", self.name, "is infinite", rows.tolist(), "Mend or drop these samples."
            )
        if (np.abs(there) > MOST).any():
            rows = start + np.flatnonzero(np.abs(values) > MOST)
            raise at_rows("out_of_range", self.name, "is beyond float32 (3.4e38)", rows.tolist(), "Scale it.")
        if not len(there):
            return
        mean = float(there.mean())
        total, apart = self._count + len(there), mean - self._mean
        self._square += float(((there - mean) ** 2).sum()) + apart**2 * self._count * len(there) / total
        self._mean += apart * len(there) / total
        self._count = total

    # ---- what was found
    def settle(self, first: int) -> int:
        """Fixes the features, of which the first is the row's `first`; their number."""
        self.told = {"column": self.name} | (self._settled_as_known() if self._known else self._settled())
        width = (1 if self._numeric else len(self.told["values"])) + int(self.told["indicator"])
        self.told |= {"missing": self._missing, "at": [first, first + width]}
        return width

    def _settled_as_known(self) -> dict[str, Any]:
        theirs = {name: value for name, value in (self._known or {}).items() if name in TAKEN_OVER}
        return theirs if self._numeric else theirs | {"unseen": self._unseen}

    def _settled(self) -> dict[str, Any]:
        if len(self._kinds & {"numbers", "text"}) == 2:
            raise LoadError(
                "unsupported_dtype", f"{quoted(self.name)!r} holds text in some rows and numbers in others."
            )
        indicator = self._missing > 0
        if self._numeric:
            if not self._count:
                raise LoadError(
                    "missing_array",
                    f"The column {quoted(self.name)!r} holds no value: leave it out of columns.inputs.",
                    [at(pointer(self.name), "is empty")],
                )
            std = float(np.sqrt(self._square / self._count))
            return {"kind": "number", "indicator": indicator, "mean": self._mean, "std": std}
        if self._values is None:
            raise LoadError(
                "too_many_values",
                f"{quoted(self.name)!r} holds text of more than {MOST_VALUES} different values, too many "
                "for a category: leave the column out of columns.inputs, or, if it is the text to classify, "
                "name it as the only input and send a tokenizer_file.",
                [at(pointer(self.name), f"holds more than {MOST_VALUES} different values")],
            )
        if self._no_names:
            raise refused_names(self.name, self._no_names)
        return {"kind": "category", "indicator": indicator, "values": sorted(self._values)}

    # ---- second pass
    def encode(self, column: Column, start: int) -> Block:
        column = self._plain(column)
        if self._numeric:
            values = self._numbers(column)
            assert values is not None  # noqa: S101  (the first pass has read them)
            missing = np.isnan(values)
            main = np.where(missing, self.told["mean"], values)[:, None]
        else:
            missing = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
            codes = pc.fill_null(pc.index_in(column, self._value_set()), -1).to_numpy(zero_copy_only=False)
            main = np.zeros((len(column), len(self.told["values"])))
            known = np.flatnonzero(codes >= 0)
            main[known, codes[known]] = 1
        parts = [main, missing[:, None]] if self.told["indicator"] else [main]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _value_set(self) -> Column:
        return pa.array((self._known or self.told)["values"], pa.large_string())

    def _plain(self, column: Column) -> Column:
        """Text (null where missing), or numbers, or nothing at all."""
        column = plain(column, self.name)
        kind = value_kind(column.type)
        if kind == "nothing":
            return column.cast(pa.large_string() if not self._numeric else pa.float64())
        if kind not in ("text", "flags", "integers", "floats"):
            raise LoadError(
                "unsupported_dtype",
                f"{quoted(self.name)!r} holds {column.type}; the columns of a table hold numbers or text. "
                'Lists, images and long text stand alone: columns: {"inputs": "<the column>"}.',
                [at(pointer(self.name), f"holds {column.type}")],
            )
        self._kinds.add("text" if kind == "text" else "numbers")
        if kind == "text":
            return trimmed(column) if self._untyped else column.cast(pa.large_string())
        if self._known is not None and not self._numeric:
            return column.cast(pa.large_string())  # a category whose values look like numbers
        return column

    def _numbers(self, column: Column) -> Block | None:
        """float64, NaN where missing; None for text that is no numbers."""
        kind = value_kind(column.type)
        if kind == "text" and not self._untyped:
            return None
        parsed = _parsed(column) if kind == "text" else column.cast(pa.float64(), safe=False)
        return None if parsed is None else np.asarray(parsed.to_numpy(zero_copy_only=False), np.float64)


def _parsed(column: Column) -> Column | None:
    """Text read as numbers; None where any is none."""
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def _is_number(text: str) -> bool:
    return _parsed(pa.array([text])) is not None
