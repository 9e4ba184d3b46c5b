"""Accepts a batch order: rows of the training set in each step's batch, -1 where a batch is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worker.loading.canonical import Layout, write_canonical
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.kinds import kind_of
from worker.loading.npy import open_npy
from worker.loading.npz import open_npz
from worker.loading.source import Source, ranges
from worker.loading.tensors import sources

NAME = "batch_order"
UNUSED = -1
MOST_STEPS, MOST_BATCH = 2_000_000, 1_000_000
HOW = "Write it with np.save(path, order): integers [total_steps, batch], -1 filling a batch that is short."


@dataclass(frozen=True)
class OrderInfo:
    """What a batch order says of itself; `largest` is the highest row it names."""

    steps: int
    batch: int
    largest: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_batch_order(path: Path, out_path: Path, scratch: Path) -> OrderInfo:
    """Accepts the batch order in `path` and writes it to `out_path` as a `.npy`, int64 [steps, batch].

    Args:
        path: a stranger's file: npy, or npz or safetensors with one array `batch_order`.
        out_path: where to write; nothing is left there if the file is refused.
        scratch: a folder for arrays in Fortran order.

    Raises:
        LoadError: the file is refused.
    """
    try:
        with _opened(path, scratch) as source:
            _check(source)
            values = write_canonical(source, Layout((source.shape[1],), "int64"), out_path)
        if values.minimum < UNUSED:
            raise LoadError(
                "out_of_range", f"The batch order holds {values.minimum}; rows are 0 or more, or -1. {HOW}"
            )
        _check_steps(out_path)
    except BaseException:
        out_path.unlink(missing_ok=True)
        raise
    steps, batch = source.shape
    return OrderInfo(steps, batch, int(values.maximum))


@contextmanager
def _opened(path: Path, scratch: Path) -> Iterator[Source]:
    kind = kind_of(path)
    if kind == "a pickle":
        raise LoadError("unsafe_file", f"The batch order is a pickle, which can run code. {HOW}")
    if kind == "a single .npy array":
        yield open_npy(path, NAME)
    elif kind == "a zip archive":
        with open_npz(path, scratch) as arrays:
            yield _named(arrays)
    elif kind == "a safetensors file":
        yield _named(sources(path))
    else:
        raise LoadError("unknown_format", f"The batch order is {kind}; npy, npz or safetensors it must be.")


def _named(arrays: dict[str, Source]) -> Source:
    if NAME not in arrays:
        names = ", ".join(quoted(name) for name in list(arrays)[:20]) or "nothing"
        raise LoadError(
            "missing_array",
            f"The file lacks an array {NAME} (it holds {names}).",
            [at(pointer(NAME), "is missing")],
        )
    return arrays[NAME]


def _check(source: Source) -> None:
    if source.dtype.kind not in "iu":
        raise LoadError("unsupported_dtype", f"The batch order is of {source.dtype}, no integers. {HOW}")
    if len(source.shape) != 2 or 0 in source.shape:
        raise LoadError("shape_mismatch", f"The batch order is {list(source.shape)}. {HOW}")
    steps, batch = source.shape
    if steps > MOST_STEPS or batch > MOST_BATCH:
        raise LoadError(
            "shape_mismatch",
            f"The batch order is {list(source.shape)}; {MOST_STEPS} steps of {MOST_BATCH} at most.",
        )


def _check_steps(path: Path) -> None:
    order = np.load(path, mmap_mode="r", allow_pickle=False)
    for start, count in ranges(len(order), max(1, 1_000_000 // order.shape[1])):
        empty = np.flatnonzero((order[start : start + count] == UNUSED).all(1))
        if len(empty):
            step = start + int(empty[0])
            raise LoadError(
                "out_of_range",
                f"The batch order has no sample in step {step} (counted from 0). {HOW}",
                [at(pointer(NAME, step), "names no sample")],
            )
