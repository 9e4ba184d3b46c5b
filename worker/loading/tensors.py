"""Opens and writes `.safetensors`: 8 bytes of length, a JSON header, then the data, one tensor after the
other.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worker.loading.errors import LoadError, corrupt, quoted
from worker.loading.source import Block, Source, ranges

MOST_HEADER = 4 * 1024**2
DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "BF16": "<u2",  # the upper half of a float32
    "F32": "<f4",
    "F64": "<f8",
}
NAMES = {
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


class Tensor(NamedTuple):
    """A tensor's place in the file: `start` counts from the file's first byte."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """What `values` yields: bfloat16 comes as float32."""
        return np.dtype("<f4" if self.dtype == "BF16" else DTYPES[self.dtype])

    @property
    def floating(self) -> bool:
        return self.numpy_dtype.kind == "f"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a stranger's file, without their data.

    Raises:
        LoadError: the header is broken, too large, or does not fit the file: each tensor must hold exactly
            what its shape needs, and the tensors must follow one another without gap or overlap to the file's
            end.
    """
    size = path.stat().st_size
    header, length = _read_header(path, size)
    data = 8 + length
    tensors, spans = {}, []
    for name, entry in header.items():
        dtype, shape, (begin, end) = _entry(name, entry)
        needed = prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if end - begin != needed:
            raise corrupt(
                quoted(name), f"{dtype} {list(shape)} takes {needed} bytes, but its place has {end - begin}"
            )
        spans.append((begin, end))
        tensors[name] = Tensor(dtype, shape, data + begin)
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise corrupt("The safetensors file", "its tensors overlap, or leave a gap")
        reached = end
    if data + reached != size:
        raise corrupt(
            "The safetensors file", f"its header tells of {data + reached} bytes, but it has {size}"
        )
    return tensors


def _read_header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """The header's entries by tensor, and its length in bytes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise corrupt(
                "The safetensors file", f"its header should have {length} bytes, but the file has {size}"
            )
        if length > MOST_HEADER:
            raise LoadError(
                "unsafe_file", f"The safetensors header has {length} bytes; {MOST_HEADER} at most."
            )
        text = file.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as broken:
        raise corrupt("The safetensors file", "its header is no JSON object of distinct names") from broken
    if not isinstance(header, dict):
        raise corrupt("The safetensors file", "its header is no JSON object")
    header.pop("__metadata__", None)
    return header, length


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError("a name is there twice")
    return named


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise corrupt(quoted(name), "its header entry is not {dtype, shape, data_offsets}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2 or len(shape) > 32:
        raise corrupt(quoted(name), "its shape or its offsets are no natural numbers")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise LoadError(
            "unsupported_dtype",
            f"{quoted(name)} is of dtype {quoted(str(dtype))}; allowed: {', '.join(DTYPES)}.",
        )
    return dtype, tuple(shape), (offsets[0], offsets[1])


def _naturals(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**63 for n in numbers)


def values(path: Path, tensor: Tensor, first: int, count: int) -> Block:
    """Values [first, first + count) of a tensor, flat, bfloat16 as float32."""
    stored = np.dtype(DTYPES[tensor.dtype])
    flat: Block = np.fromfile(path, stored, count, offset=tensor.start + first * stored.itemsize)
    if tensor.dtype == "BF16":
        flat = (flat.astype("<u4") << 16).view("<f4")
    return flat


def sources(path: Path) -> dict[str, Source]:
    """The tensors of a stranger's file as arrays to be read row by row."""
    return {name: _source(path, name, tensor) for name, tensor in read_tensors(path).items()}


def _source(path: Path, name: str, tensor: Tensor) -> Source:
    def blocks(rows: int) -> Iterator[Block]:
        row = prod(tensor.shape[1:])
        for start, count in ranges(tensor.shape[0], rows):
            yield values(path, tensor, start * row, count * row).reshape(count, *tensor.shape[1:])

    return Source(name, tensor.shape, tensor.numpy_dtype, blocks)


def write_tensors(
    path: Path,
    tensors: Mapping[str, tuple[str, Sequence[int]]],
    blocks: Iterator[tuple[str, Block]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a safetensors file piece by piece.

    Args:
        tensors: dtype (one of `NAMES`) and shape of each tensor, in the order of their data.
        blocks: each tensor's values in that order, as many pieces as it likes.
        metadata: texts by name, for whoever reads the header.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + prod(shape) * np.dtype(dtype).itemsize
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, block in blocks:
            file.write(np.ascontiguousarray(block, tensors[name][0]).data)
