"""A canonical array on the disk, read by rows: what is read is copied, and nothing else takes memory.

A memory map would do the same in fewer lines, but the pages that were read through it stay counted as the
process's own until the machine is short of memory.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def opened(owner: object, path: Path) -> int:
    """A file descriptor that is closed when its owner goes."""
    descriptor = os.open(path, os.O_RDONLY)
    weakref.finalize(owner, os.close, descriptor)
    return descriptor


class Rows:
    """A `.npy` in C order, of which `rows[i]`, `rows[a:b]` and `rows[[i, j, …]]` read what they name.

    Rows asked for by a list are read from the file's begin to its end, neighbours at once, whatever their
    order. Safe to share between threads.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            shape, dtype = _header(file)
            self._first = file.tell()
        self.shape = shape
        self.dtype = dtype
        self._bytes = prod(self.shape[1:]) * dtype.itemsize
        self._file = opened(self, path)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __getitem__(self, where: int | slice | Sequence[int] | NDArray[np.integer[Any]]) -> Any:
        if isinstance(where, int | np.integer):
            row = range(len(self))[int(where)]  # IndexError beyond the end, and negative ones from it
            return self._run(row, 1)[0]
        if isinstance(where, slice):
            start, stop, step = where.indices(len(self))
            if step == 1:
                return self._run(start, max(0, stop - start))
            where = np.arange(start, stop, step)
        return self._scattered(np.asarray(where, dtype=np.int64))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        whole = self._run(0, len(self))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def _scattered(self, rows: NDArray[np.int64]) -> Array:
        if len(rows) and not -len(self) <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of an array of {len(self)}")
        rows = np.where(rows < 0, rows + len(self), rows)
        wanted, place = np.unique(rows, return_inverse=True)
        read = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        begins = np.flatnonzero(np.diff(wanted, prepend=-2) != 1)
        for begin, end in zip(begins, [*begins[1:], len(wanted)], strict=True):
            self._read(int(wanted[begin]), read[begin:end])
        return read[place.reshape(-1)]

    def _run(self, start: int, count: int) -> Array:
        read = np.empty((count, *self.shape[1:]), self.dtype)
        self._read(start, read)
        return read

    def _read(self, start: int, into: Array) -> None:
        """Rows from `start` on, as many as `into` holds."""
        if not into.size:
            return
        view, done = into.reshape(-1).view(np.uint8).data, 0
        while done < len(view):
            got = os.preadv(self._file, [view[done:]], self._first + start * self._bytes + done)
            if not got:
                raise EOFError("an array ends before its last row")
            done += got


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a `.npy`, which is read up to its data."""
    version = np.lib.format.read_magic(file)
    older, newer = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
    shape, fortran, dtype = (older if version == (1, 0) else newer)(file)
    if (fortran and len(shape) > 1) or dtype.hasobject or not shape:
        raise ValueError(f"{file.name} is no canonical array")
    return tuple(map(int, shape)), dtype
