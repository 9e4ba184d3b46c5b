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
    dtype = np.dtype(layout.dtype)
    least: list[float] = []
    largest: list[float] = []
    with path.open("wb") as file:
        write_header(file, (source.shape[0], *layout.shape), dtype)
        start = 0
        for block in source.blocks(source.rows_per_block):
            values = _cast(source.name, block, dtype, start)
            least.append(values.min().item())
            largest.append(values.max().item())
            file.write(np.ascontiguousarray(layout.arranged(values)).data)
            start += len(block)
    return Range(min(least), max(largest))


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
