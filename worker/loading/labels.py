"""Targets of a table: labels as they are, names of labels turned into numbers, or numbers to predict."""

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
    check_name,
    no_names,
    plain,
    refused_names,
    trimmed,
    value_kind,
)

MOST_NAMES = 10_000


class Labels:
    """One column of targets.

    Integers and flags stay labels; other numbers are what a regression predicts; text is names of classes,
    numbered in sorted order, or as in the data set that this one is `like`.

    Attributes:
        classes: their names by number; None where there are none.
    """

    def __init__(self, table: Table, column: str, like: Mapping[str, Any] | None) -> None:
        self.columns = (column,)
        self._name, self._untyped = column, table.is_untyped(column)
        self._own = table.classes.get(column)  # the file's names of its integer labels
        self._like: list[str] | None = like.get("classes") if like else None
        self._strict = like is not None
        self.classes = self._like
        self._texts: set[str] = set()
        self._no_names: dict[str, int] = {}  # and the rows that have them, should they be names
        self._text, self._integers, self._numbers, self._typed = False, True, True, False

    # ---- first pass
    def scan(self, batch: Batch, start: int) -> None:
        column = self._there(batch.column(self._name), start)
        if value_kind(column.type) == "text":
            self._text = True
            self._scan_text(column, start)
        else:
            self._typed = True
            self._integers &= value_kind(column.type) in ("flags", "integers")

    def _scan_text(self, column: Column, start: int) -> None:
        self._integers = self._integers and self._untyped and _cast(column, pa.int64()) is not None
        if not self._integers:
            self._numbers = self._numbers and self._untyped and _cast(column, pa.float64()) is not None
        if len(self._texts) <= MOST_NAMES:
            fresh = set(pc.unique(column).to_pylist()) - self._texts
            self._texts |= fresh
            self._no_names |= no_names(column, fresh, start)

    def settle(self) -> Layout:
        if self._text and self._typed:
            raise LoadError(
                "unsupported_dtype", f"{quoted(self._name)!r} holds text in some rows and numbers in others."
            )
        named = self._text and not (self._integers or self._numbers)
        if self._like is not None:
            return Layout((), "int64")
        if named:
            self.classes = self._named()
        elif self._own is not None and self._integers:
            for number, name in enumerate(self._own):
                check_name(
                    name, f"The class {number} of {quoted(self._name)!r} has a name", pointer(self._name)
                )
            self.classes = self._own
        return Layout((), "int64" if named or self._integers else "float32")

    def _named(self) -> list[str]:
        if self._strict:
            raise LoadError(
                "unlike",
                f"{quoted(self._name)!r} holds names of labels, but the labels of the data set that this one "
                "should be like are numbers: write the same numbers here.",
                [at(pointer(self._name), "holds names of labels")],
            )
        if len(self._texts) > MOST_NAMES:
            raise LoadError(
                "too_many_values",
                f"{quoted(self._name)!r} holds more than {MOST_NAMES} different texts, too many for labels.",
            )
        if self._no_names:
            raise refused_names(self._name, self._no_names)
        return sorted(self._texts)

    # ---- second pass
    def encode(self, batch: Batch, start: int) -> Block:
        column = self._there(batch.column(self._name), start)
        text = value_kind(column.type) == "text"
        if self.classes is not None and (text or self._like is not None):
            return self._numbered(column, self.classes, start)
        if text:
            column = _cast(column, pa.int64() if self._integers else pa.float64())
        values: Block = np.asarray(column.to_numpy(zero_copy_only=False))
        if self.classes is not None and ((values < 0) | (values >= len(self.classes))).any():
            rows = start + np.flatnonzero((values < 0) | (values >= len(self.classes)))
            raise at_rows(
                "out_of_range",
                self._name,
                "is none of its classes",
                rows.tolist(),
                f"They are 0 to {len(self.classes) - 1}.",
            )
        if values.dtype.kind == "b":
            return values.astype(np.int64)
        return values.astype(np.float64) if not self._integers else values

    def _numbered(self, column: Column, classes: Sequence[str], start: int) -> Block:
        """By name: a label's own where the file tells them, else the text that is there."""
        if value_kind(column.type) != "text":
            column = column.cast(pa.int64(), safe=False)
            if self._own is not None:
                column = pc.take(pa.array(self._own, pa.large_string()), _within(column, len(self._own)))
            else:
                column = column.cast(pa.large_string())
        codes = pc.index_in(column, pa.array(classes, pa.large_string()))
        if codes.null_count:
            wrong = np.flatnonzero(codes.is_null().to_numpy(zero_copy_only=False))
            names = sorted({str(column[int(row)].as_py()) for row in wrong})[:10]
            shown = ", ".join(repr(quoted(name)) for name in names)
            known = ", ".join(repr(quoted(name)) for name in classes[:10]) + (
                ", …" if len(classes) > 10 else ""
            )
            raise at_rows(
                "unknown_label",
                self._name,
                f"has labels that the other data set does not know ({shown})",
                (start + wrong).tolist(),
                f"Its labels are {known}.",
            )
        return np.asarray(codes.to_numpy(zero_copy_only=False)).astype(np.int64)

    def _there(self, column: Column, start: int) -> Column:
        """Text or numbers, none of them missing."""
        column = plain(column, self._name)
        kind = value_kind(column.type)
        if kind not in ("nothing", "text", "flags", "integers", "floats"):
            raise LoadError(
                "unsupported_dtype",
                f"{quoted(self._name)!r} holds {column.type}; targets are labels, their names, or numbers.",
                [at(pointer(self._name), f"holds {column.type}")],
            )
        if kind == "text":
            column = trimmed(column) if self._untyped else column.cast(pa.large_string())
        if column.null_count:
            rows = (start + np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))).tolist()
            raise at_rows("missing_value", self._name, "is missing", rows, "Fill in or drop these samples.")
        return column


def _within(column: Column, count: int) -> Column:
    """Indices, null where there is nothing to index."""
    inside = pc.and_(pc.greater_equal(column, 0), pc.less(column, count))
    return pc.if_else(inside, column, None)


def _cast(column: Column, kind: Any) -> Column | None:
    """Text read as numbers of this kind; None where any is none."""
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None
