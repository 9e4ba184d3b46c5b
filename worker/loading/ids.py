"""Sample ids: strings or integers in the file, distinct strings in canonical form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from worker.loading.canonical import write_header
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import Block, Source

MOST_CHARACTERS = 256


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
    width = _width(source)
    if width > MOST_CHARACTERS:
        raise LoadError("invalid_ids", f"ids are up to {width} characters long; {MOST_CHARACTERS} at most.")
    with path.open("wb") as file:
        write_header(file, source.shape, np.dtype(f"<U{width}"))
        for ids in _texts(source):
            file.write(np.array(ids, f"<U{width}").data)
    _check_distinct(path)


def _width(source: Source) -> int:
    if source.dtype.kind in "iu":
        return 20  # the longest integer of 64 bits
    return max(1, source.dtype.itemsize // (4 if source.dtype.kind == "U" else 1))


def _texts(source: Source) -> Iterator[list[str]]:
    start = 0
    for block in source.blocks(source.rows_per_block):
        ids = _decoded(block, start)
        for row, text in enumerate(ids, start):
            if not text or not text.isprintable():
                raise LoadError(
                    "invalid_ids",
                    f"The id of sample {row} is {quoted(text)!r}; it must be printable text, and not empty.",
                    [at(pointer("ids", row), "is no printable text")],
                )
        yield ids
        start += len(ids)


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


def _check_distinct(path: Path) -> None:
    """By hash first, 8 bytes an id, then by the text where two hashes agree."""
    ids = np.load(path, mmap_mode="r")
    hashes = np.fromiter((hash(text) for text in ids), np.int64, len(ids))
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    for place in np.flatnonzero(ordered[1:] == ordered[:-1]):
        first, second = (int(row) for row in order[place : place + 2])
        if ids[first] == ids[second]:
            raise LoadError(
                "invalid_ids",
                f"The id {quoted(str(ids[first]))!r} is there twice, in samples {first} and {second}; "
                "ids must differ.",
                [at(pointer("ids", second), f"is also the id of sample {first}")],
            )
