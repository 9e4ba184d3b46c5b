"""Whether a data set's arrays may be as large as they come out, beside its file and on the disk.

Whole numbers are int64 there, whatever the file has: its size alone bounds nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
from math import prod
from pathlib import Path

import numpy as np

from worker.loading.canonical import Layout
from worker.loading.errors import LoadError
from worker.loading.source import MOST_SAMPLE_BYTES

FREELY_BYTES, MOST_TIMES = 256 * 1024**2, 1000  # of arrays, and beyond that: how many times the file's bytes
SPARE_BYTES = 512 * 1024**2  # that a data set must leave free on the disk, of a small one an eighth


def check_least(rows: int, columns: int, sent: int) -> None:
    """Before the values of a table are read, from its names and the number of its rows alone: a line of JSON
    names a few of the columns, but all of them are numbers of its sample.

    Args:
        sent: bytes of the file.

    Raises:
        LoadError: one number (float32) a column would be too much already.
    """
    _check_times(rows, rows * columns * np.dtype(np.float32).itemsize, sent, f", of {columns} columns,")


def check_room(rows: int, layouts: tuple[Layout, Layout], out_dir: Path, sent: int) -> None:
    """Before a byte is written: a sample's size, and the size of all of them on the disk.

    Raises:
        LoadError: they are too large.
        OSError: the disk is full.
    """
    sizes = [prod(one.shape) * np.dtype(one.dtype).itemsize for one in layouts]
    for name, size in zip(("inputs", "targets"), sizes, strict=True):
        if not size:
            raise LoadError("shape_mismatch", f"A sample of {name} holds no values.")
        if size > MOST_SAMPLE_BYTES:
            raise LoadError(
                "sample_too_large", f"A sample's {name} take {size} bytes; {MOST_SAMPLE_BYTES} at most."
            )
    disk, taken = shutil.disk_usage(out_dir), rows * sum(sizes)
    _check_times(rows, taken, sent)
    spare = min(SPARE_BYTES, disk.total // 8)
    if taken > disk.total - spare:
        raise LoadError(
            "dataset_too_large",
            f"Read as arrays the {rows} samples take {taken:,} bytes, more than the service has room for: "
            "send part of them, or smaller ones.",
        )
    if taken > disk.free - spare:  # they would fit: it is not the file's fault
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _check_times(rows: int, taken: int, sent: int, of: str = "") -> None:
    if taken > max(FREELY_BYTES, MOST_TIMES * sent):
        raise LoadError(
            "dataset_too_large",
            f"Read as arrays the {rows} samples{of} take {taken:,} bytes, more than {MOST_TIMES:,} times "
            f"those of the file ({sent:,}), which holds of arrays beyond {FREELY_BYTES // 1024**2} MiB: give "
            "a shorter max_length or a smaller image_size, fewer columns as inputs, or fewer samples. Data "
            "that really are one value nearly everywhere are taken from a file that is not packed: a csv, "
            "np.savez, or parquet with compression='none' and use_dictionary=False.",
        )
