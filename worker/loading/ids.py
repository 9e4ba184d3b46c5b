"""Sample ids: strings or integers in the file, distinct strings in canonical form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.store.rows import Rows
from worker.loading.canonical import write_header
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import Block, Source, ranges

MOST_CHARACTERS = 256
ROWS = 4096


def write_ids(source: Source, path: Path) -> None:
    """Writes ids [N] as a `.npy` of strings.

    Raises:
        LoadError: an id is empty, too long, no printable text, or there twice; or the array is of another
            kind.
    """
    if source.dtype.kind not in "iuUS" or len(source.shape) != 1:
        raise LoadError(
            "invalid_ids",
            f"ids are {source.dtype} {list(source.shape)}; they must be one string or integer a sample, [N].",
            [at("/ids", "are no ids")],
        )
    with IdWriter(source.shape[0], _width(source), path) as writer:
        start = 0
        for block in source.blocks(source.rows_per_block):
            writer.write(_decoded(block, start))
            start += len(block)
    check_distinct(path)


class IdWriter:
    """Writes `rows` ids of up to `width` characters to `path`, as many at a time as one likes.

    Args:
        name: of the array or column that they come from.

    Raises:
        LoadError: an id is empty, too long, or no printable text.
    """

    def __init__(self, rows: int, width: int, path: Path, name: str = "ids") -> None:
        if width > MOST_CHARACTERS:
            raise LoadError(
                "invalid_ids",
                f"ids are up to {width} characters long; {MOST_CHARACTERS} at most.",
                [at(pointer(name), "is too long")],
            )
        self._width, self._start, self._name = max(1, width), 0, name
        self._file = path.open("wb")
        write_header(self._file, (rows,), np.dtype(f"<U{self._width}"))

    def __enter__(self) -> IdWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, ids: Sequence[str]) -> None:
        for row, text in enumerate(ids, self._start):
            if not text or not text.isprintable():
                raise LoadError(
                    "invalid_ids",
                    f"The id of sample {row}, in {quoted(self._name)!r}, is {quoted(text)!r}; it must be "
                    "printable text, and not empty.",
                    [at(pointer(self._name, row), "is no printable text")],
                )
        self._file.write(np.array(ids, f"<U{self._width}").data)
        self._start += len(ids)


def _width(source: Source) -> int:
    if source.dtype.kind in "iu":
        return 20  # the longest integer of 64 bits
    return max(1, source.dtype.itemsize // (4 if source.dtype.kind == "U" else 1))


def _decoded(block: Block, start: int) -> list[str]:
    try:
        if block.dtype.kind == "S":
            return [text.decode() for text in block.tolist()]
        return [str(text) for text in block.tolist()]
    except (UnicodeDecodeError, ValueError) as broken:
        raise LoadError(
            "invalid_ids",
            f"An id from sample {start} on is no Unicode text.",
            [at("/ids", "are no Unicode text")],
        ) from broken


def check_distinct(path: Path, name: str = "ids") -> None:
    """By hash first, 8 bytes an id, then by the text where two hashes agree.

    Raises:
        LoadError: an id is there twice.
    """
    ids = Rows(path)
    hashes = np.empty(len(ids), np.int64)
    for start, count in ranges(len(ids), ROWS):
        hashes[start : start + count] = [hash(text) for text in ids[start : start + count]]
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    for place in np.flatnonzero(ordered[1:] == ordered[:-1]):
        first, second = (int(row) for row in order[place : place + 2])
        if ids[first] == ids[second]:
            raise LoadError(
                "invalid_ids",
                f"The id {quoted(str(ids[first]))!r} is there twice, in samples {first} and {second}; "
                "ids must differ.",
                [at(pointer(name, second), f"is also the id of sample {first}")],
            )
