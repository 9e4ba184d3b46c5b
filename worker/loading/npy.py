"""Opens a single `.npy`: nothing is unpickled, and its header is held against the file's size."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np

from worker.loading.errors import corrupt
from worker.loading.npz import read_header
from worker.loading.source import Block, Source, ranges


def open_npy(path: Path, name: str) -> Source:
    """The array in the file, without its data.

    Raises:
        LoadError: an object array, a header that makes no sense, or one that does not fit the file.
    """
    with path.open("rb") as file:
        header = read_header(file, name)
    needed, held = prod(header.shape) * header.dtype.itemsize, path.stat().st_size - header.bytes
    if needed != held:
        raise corrupt(
            name,
            f"its header asks for {needed} bytes ({header.dtype} {list(header.shape)}), but it holds {held}",
        )

    def blocks(rows: int) -> Iterator[Block]:
        if not needed:
            return
        whole: Block = np.memmap(
            path, header.dtype, "r", header.bytes, header.shape, "F" if header.fortran else "C"
        )
        for start, count in ranges(header.shape[0], rows):
            block = np.ascontiguousarray(whole[start : start + count])
            yield block.astype(header.dtype.newbyteorder("="), copy=False)

    return Source(name, header.shape, header.dtype.newbyteorder("="), blocks)
