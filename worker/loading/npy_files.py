"""Arrays in files of their own: a `.npy` a sample, all of one shape and type."""

from __future__ import annotations

import io
from math import prod
from typing import Any

import numpy as np

from worker.loading.canonical import Layout
from worker.loading.errors import corrupt
from worker.loading.layouts import input_layout
from worker.loading.npz import Header, read_header
from worker.loading.source import Block, Source
from worker.loading.table import Batch, Table, at_rows


class NpyFiles:
    """One column of `.npy` files; nothing is unpickled, and each header is held against its file's size."""

    def __init__(self, table: Table, column: str) -> None:
        self.columns: tuple[str, ...] = ()  # of the first pass: it looks at the first array alone
        self.column = column
        batch = next(iter(table.batches([column])))
        self._header = _checked(batch.column(column)[0].as_py(), column, 0)

    def scan(self, batch: Batch, start: int) -> None:
        pass

    def settle(self) -> Layout:
        dtype = self._header.dtype.newbyteorder("=")
        return input_layout(Source(self.column, (1, *self._header.shape), dtype, lambda rows: iter(())))

    def encode(self, batch: Batch, start: int) -> Block:
        files = batch.column(self.column).to_pylist()
        return np.stack([self._array(data, start + row) for row, data in enumerate(files)])

    def _array(self, data: bytes, row: int) -> Block:
        header = _checked(data, self.column, row)
        if (header.shape, header.dtype) != (self._header.shape, self._header.dtype):
            raise at_rows(
                "shape_mismatch",
                self.column,
                f"is {header.dtype} {list(header.shape)}, the first one {self._header.dtype} "
                f"{list(self._header.shape)},",
                [row],
                "All must have the same.",
            )
        flat = np.frombuffer(data, header.dtype, offset=header.bytes)
        return flat.reshape(header.shape, order="F" if header.fortran else "C").astype(
            header.dtype.newbyteorder("=")
        )

    def told(self) -> dict[str, Any]:
        return {"kind": "array"}


def _checked(data: bytes, name: str, row: int) -> Header:
    header = read_header(io.BytesIO(data), f"the .{name} of sample {row}")
    needed, held = prod(header.shape) * header.dtype.itemsize, len(data) - header.bytes
    if needed != held:
        raise corrupt(
            f"The .{name} of sample {row}", f"its header asks for {needed} bytes, but it holds {held}"
        )
    return header
