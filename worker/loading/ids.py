"""Sample ids: strings or integers in the file, distinct strings in canonical form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from app.store.rows import Rows
from worker.loading.canonical import write_header
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import Block, Source, ranges

MOST_CHARACTERS = 256
ROWS = 4096
AT_ONCE = 2_000_000  # ids of which hashes are held
MOST_TWICE = 1000


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
    except (ValueError, SystemError) as broken:  # numpy says the latter of what lies beyond Unicode
        raise LoadError(
            "invalid_ids",
            f"An id from sample {start} on is no Unicode text.",
            [at("/ids", "are no Unicode text")],
        ) from broken


def check_distinct(path: Path, name: str = "ids") -> None:
    """By hash, 8 bytes an id, in several passes where there are many; by the text where two hashes agree.

    Raises:
        LoadError: an id is there twice.
    """
    ids = Rows(path)
    passes = max(1, -(-len(ids) // AT_ONCE))
    for number in range(passes):
        hashes = np.concatenate(
            [part[part % passes == number] for _, part in _hashes(ids)] if passes > 1 else [_all(ids)]
        )
        hashes.sort()
        twice = hashes[1:][hashes[1:] == hashes[:-1]][:MOST_TWICE]
        if len(twice):
            _refuse_twice(ids, twice, name)


def _hashes(ids: Rows) -> Iterator[tuple[int, Block]]:
    """(first row, the ids' hashes) of each block."""
    for start, count in ranges(len(ids), ROWS):
        yield start, np.array([hash(text) for text in ids[start : start + count]], np.int64)


def _all(ids: Rows) -> Block:
    hashes = np.empty(len(ids), np.int64)
    for start, part in _hashes(ids):
        hashes[start : start + len(part)] = part
    return hashes


def _refuse_twice(ids: Rows, twice: Block, name: str) -> None:
    seen: dict[str, int] = {}
    for start, part in _hashes(ids):
        for row in (start + np.flatnonzero(np.isin(part, twice))).tolist():
            text = str(ids[row])
            if text in seen:
                raise LoadError(
                    "invalid_ids",
                    f"The id {quoted(text)!r} is there twice, in samples {seen[text]} and {row}; ids must "
                    "differ.",
                    [at(pointer(name, row), f"is also the id of sample {seen[text]}")],
                )
            seen[text] = row
