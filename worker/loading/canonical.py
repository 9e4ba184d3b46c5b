"""Writes an array in canonical form, block by block, looking at every value on its way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from worker.loading.errors import LoadError, at, pointer
from worker.loading.source import Block, Source

MOST_INT64 = 2**63 - 1
SHOWN_ROWS = 10


@dataclass(frozen=True)
class Layout:
    """How an array is to be kept: one sample's shape, the dtype, and whether channels move to the end."""

    shape: tuple[int, ...]
    dtype: str
    kind: str = "array"
    channels_first: bool = False

    def arranged(self, block: Block) -> Block:
        """[B, …] as read → [B, *shape]."""
        if self.channels_first:
            block = np.moveaxis(block, 1, -1)
        return block.reshape(len(block), *self.shape)


class Range(NamedTuple):
    """The least and the largest value: whole numbers of integers."""

    minimum: float
    maximum: float


def write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """The header of a `.npy` in C order."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )


def write_canonical(source: Source, layout: Layout, path: Path) -> Range:
    """Writes `source` to `path` as a `.npy`.

    Returns:
        The range of its values.

    Raises:
        LoadError: a value is not finite, or does not fit the canonical dtype.
    """
    with ArrayWriter(source.name, source.shape[0], layout, path) as writer:
        for block in source.blocks(source.rows_per_block):
            writer.write(block)
    return writer.range


class ArrayWriter:
    """Writes an array of `rows` samples to `path`, block by block; raises LoadError as `write_canonical`."""

    def __init__(self, name: str, rows: int, layout: Layout, path: Path) -> None:
        self._name, self._layout, self._dtype = name, layout, np.dtype(layout.dtype)
        self._start = 0
        self._least: list[float] = []
        self._largest: list[float] = []
        self._file = path.open("wb")
        write_header(self._file, (rows, *layout.shape), self._dtype)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, block: Block) -> None:
        values = _cast(self._name, block, self._dtype, self._start)
        self._least.append(values.min().item())
        self._largest.append(values.max().item())
        self._file.write(np.ascontiguousarray(self._layout.arranged(values)).data)
        self._start += len(block)

    @property
    def range(self) -> Range:
        return Range(min(self._least), max(self._largest))


def _cast(name: str, block: Block, dtype: np.dtype[np.generic], start: int) -> Block:
    if block.dtype == np.uint64 and (too_large := block > MOST_INT64).any():
        raise _refused("out_of_range", name, "values beyond int64", too_large, start)
    with np.errstate(over="ignore"):
        values = block.astype(dtype, copy=False)
    if dtype.kind == "f" and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        if not np.isfinite(block).all():
            raise _refused("non_finite", name, "NaN or infinite values", ~np.isfinite(block), start)
        raise _refused("out_of_range", name, "values beyond float32 (3.4e38)", ~np.isfinite(values), start)
    return values


def _refused(code: str, name: str, what: str, wrong: Block, start: int) -> LoadError:
    rows = start + np.flatnonzero(wrong.reshape(len(wrong), -1).any(1))
    shown = ", ".join(map(str, rows[:SHOWN_ROWS])) + (", …" if len(rows) > SHOWN_ROWS else "")
    return LoadError(
        code,
        f"{name} has {what}, first in sample(s) {shown} (counted from 0). Mend or drop these samples.",
        [at(pointer(name, int(row)), f"has {what}") for row in rows[:SHOWN_ROWS]],
    )
