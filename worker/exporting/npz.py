"""npz: an array a column, [N] each, put together from one file a column.

The rows come one after the other and the arrays lie one after the other, so each column is written to a
file of its own first. Nothing is an array of objects: numpy reads it with pickles refused.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from worker.exporting.table import WIDE, Column, Table

PIECE = 1024**2
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same rows are the same bytes
UNKNOWN = -1  # of a flag
Array = NDArray[Any]


class Spool:
    """One column, written batch after batch, read back the same way once its kind is known."""

    def __init__(self, column: Column, file: IO[bytes]) -> None:
        self.column = column
        self._file = file
        self._missing = self._count = self._width = 0

    def add(self, values: list[Any]) -> None:
        self._count += len(values)
        self._missing += values.count(None)
        array = _array(self.column, values)
        self._width = max(self._width, array.dtype.itemsize // 4 if self.column.kind == "text" else 0)
        np.lib.format.write_array(self._file, array, version=(1, 0), allow_pickle=False)

    @property
    def empty(self) -> bool:
        """Whether no row has a value."""
        return self._missing == self._count

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the whole column is."""
        if self.column.kind == "text":
            return np.dtype(f"<U{self._width}")
        if self.column.kind == "whole":
            return np.dtype("<f8" if self._missing else "<i8")
        return _array(self.column, []).dtype

    def pieces(self) -> Iterator[Array]:
        self._file.seek(0)
        left = self._count
        while left:
            piece = np.lib.format.read_array(self._file, allow_pickle=False)
            left -= len(piece)
            yield piece.astype(self.dtype)


def _array(column: Column, values: list[Any]) -> Array:
    if column.kind == "index":
        return np.array(values, "<i8")
    if column.kind == "flag":
        return np.array([UNKNOWN if value is None else value for value in values], "i1")
    if column.kind == "text":
        return np.array([value or "" for value in values] or [""], np.str_)
    return np.array([np.nan if value is None else value for value in values], "<f8")


def write_npz(table: Table, path: Path) -> Iterator[int]:
    """Writes the columns, telling of each batch how many rows it held; those without any value are left out.

    Numbers that are missing are NaN, texts empty, flags -1.
    """
    with ExitStack() as opened:

        def scratch() -> IO[bytes]:
            return opened.enter_context(tempfile.TemporaryFile(dir=path.parent))

        spools = [Spool(column, scratch()) for column in table.columns]
        wide = scratch()
        for batch in table.batches():
            for spool in spools:
                spool.add([row[spool.column.name] for row in batch.rows])
            if batch.influences is not None:
                wide.write(np.ascontiguousarray(batch.influences, "<f4").data)
            yield len(batch.rows)
        with zipfile.ZipFile(path, "w") as archive:
            for spool in spools:
                if not spool.empty:
                    _member(archive, spool.column.name, spool.dtype, (table.length,), spool.pieces)
            if table.queries is not None:
                queries = table.queries.astype("<i8")
                _member(archive, "query_index", queries.dtype, queries.shape, lambda: iter([queries]))
                shape, dtype = (table.length, len(queries)), np.dtype("<f4")
                _member(archive, WIDE, dtype, shape, lambda: _read(wide, dtype))


def _read(file: IO[bytes], dtype: np.dtype[Any]) -> Iterator[Array]:
    file.seek(0)
    while piece := file.read(PIECE):
        yield np.frombuffer(piece, dtype)


def _member(
    archive: zipfile.ZipFile,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    pieces: Callable[[], Iterator[Array]],
) -> None:
    info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
    # fixed-width text is mostly padding; numbers hardly shrink
    info.compress_type = zipfile.ZIP_DEFLATED if dtype.kind == "U" else zipfile.ZIP_STORED
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    written = 0
    with archive.open(info, "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for piece in pieces():
            member.write(np.ascontiguousarray(piece).tobytes())
            written += piece.size
    if written != prod(shape):
        raise ValueError(f"{name} has {written} values where {shape} were announced")
