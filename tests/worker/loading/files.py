"""Files as strangers send them, good and bad, made by hand."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from worker.loading import DatasetInfo, LoadError

Array = np.ndarray[Any, Any]
Load = Callable[..., DatasetInfo]
Refuse = Callable[..., LoadError]

X = np.arange(24, dtype=np.float32).reshape(6, 4)
Y = np.array([0, 1, 2, 2, 1, 2])


def npz(**given_arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **given_arrays)
    return buffer.getvalue()


def npy(array: Array, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda info: None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            change(info)
            archive.writestr(info, data)
    return buffer.getvalue()


def header(text: str, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode()


@contextmanager
def allocating_at_most(limit: int) -> Iterator[None]:
    """Fails where Python and numpy take more than `limit` bytes at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def canonical(out: Path, name: str = "inputs") -> Array:
    array: Array = np.load(out / f"{name}.npy", allow_pickle=False)
    return array


def survives(load: Load, data: bytes, kind: str, **asked: Any) -> None:
    """It is read, or refused; nothing else happens."""
    try:
        info = load(data, kind, **asked)
    except LoadError:
        return
    assert info.num_samples > 0
