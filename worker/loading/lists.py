"""Columns of lists: vectors and arrays of one shape, and token ids of any length, which are padded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.compute as pc  # type: ignore[import-untyped]

from worker.loading.canonical import Layout
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import MOST_DIMENSIONS, Block, Source
from worker.loading.table import Batch, Column, at_rows, plain, value_kind


class Lists:
    """One column of lists.

    Integers of one axis may differ in length: they are token ids, padded at their end to the longest, or cut
    and padded to `max_length`.
    """

    def __init__(
        self,
        column: str,
        arrange: Callable[[Source], Layout],
        max_length: int | None = None,
        padding_id: int | None = None,
    ) -> None:
        self.columns = (column,)
        self._name, self._arrange = column, arrange
        self.max_length, self._padding_id = max_length, padding_id
        self._shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] | None = None
        self._ragged = False
        self._longest = self._cut = 0
        self._layout = Layout((), "float32")

    def scan(self, batch: Batch, start: int) -> None:
        column = _there(batch.column(self._name), self._name, start)
        inner, lengths = column, []
        while value_kind(inner.type) == "lists":
            lengths.append(np.asarray(_lengths(inner)))
            if len(lengths) > MOST_DIMENSIONS:
                raise self._refused(f"holds lists more than {MOST_DIMENSIONS} deep")
            inner = plain(inner.flatten(), self._name)
        kind = value_kind(inner.type)
        if inner.null_count or kind not in ("flags", "integers", "floats", "nothing"):
            raise self._refused(
                f"holds lists of {inner.type}, or has gaps in its lists; numbers alone they must hold"
            )
        shape = tuple(int(one[0]) if len(one) else 0 for one in lengths)
        even = all((one == one[:1]).all() for one in lengths)
        self._longest = max(self._longest, int(lengths[0].max(initial=0)))
        if self.max_length is not None:
            self._cut += int((lengths[0] > self.max_length).sum())
        if kind != "nothing":
            found = np.dtype(inner.type.to_pandas_dtype()) if kind != "floats" else np.dtype(np.float64)
            self._dtype = found if self._dtype in (None, found) else np.promote_types(self._dtype, found)
        self._ragged |= not even or (self._shape not in (None, shape))
        if self._ragged and len(lengths) > 1:
            raise self._refused("holds arrays of several shapes; all must have the same")
        self._shape = shape

    def settle(self) -> Layout:
        shape, dtype = self._shape or (0,), self._dtype or np.dtype(np.float64)
        if len(shape) == 1 and (self._ragged or self.max_length is not None):
            if dtype.kind not in "iu":
                raise self._refused("holds lists of several lengths; all must have the same")
            shape, dtype = (self.max_length or self._longest,), np.dtype(np.int64)
            self._ragged = True
        self._dtype, self._shape = dtype, shape
        self._layout = self._arrange(Source(self._name, (1, *shape), dtype, lambda rows: iter(())))
        return self._layout

    def encode(self, batch: Batch, start: int) -> Block:
        column = _there(batch.column(self._name), self._name, start)
        if self._ragged:
            return self._padded(column, start)
        assert self._shape is not None and self._dtype is not None  # noqa: S101  (settled)
        inner = column
        for _ in self._shape:
            inner = plain(inner.flatten(), self._name)
        values = np.asarray(inner.to_numpy(zero_copy_only=False)).astype(self._dtype, copy=False)
        return values.reshape(len(column), *self._shape)

    def _padded(self, column: Column, start: int) -> Block:
        lengths = np.asarray(_lengths(column))
        width = self._layout.shape[0]
        if self._padding_id is None and (lengths < width).any():
            raise LoadError(
                "padding_required",
                f"The lists of {quoted(self._name)!r} differ in length; give padding_id, the token id "
                "that fills up the shorter ones.",
                [at("/padding_id", "is required")],
            )
        found = np.full((len(column), width), self._padding_id or 0, np.int64)
        values = np.asarray(column.flatten().to_numpy(zero_copy_only=False)).astype(np.int64, copy=False)
        ends = np.cumsum(lengths)
        for row, (length, end) in enumerate(zip(lengths, ends, strict=True)):
            taken = min(length, width)
            found[row, :taken] = values[end - length : end - length + taken]
        return found

    def told(self) -> dict[str, Any]:
        if not self._ragged:
            return {"kind": "array"}
        return {
            "kind": "tokens",
            "max_length": self._layout.shape[0],
            "padding_id": self._padding_id,
            "truncated": self._cut,
        }

    def _refused(self, what: str) -> LoadError:
        return LoadError(
            "shape_mismatch", f"The column {quoted(self._name)!r} {what}.", [at(pointer(self._name), what)]
        )


def _lengths(column: Column) -> Any:
    return pc.list_value_length(column).to_numpy(zero_copy_only=False)


def _there(column: Column, name: str, start: int) -> Column:
    column = plain(column, name)
    if column.null_count:
        rows = (start + np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))).tolist()
        raise at_rows("missing_value", name, "is missing", rows, "Fill in or drop these samples.")
    return column
