"""Quotes of a csv that are never closed: what follows one would pass for a value, whatever it is."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from worker.loading.source import BLOCK_BYTES

QUOTE = b'"'


def has_odd_quotes(path: Path) -> bool:
    """Whether quotes are left over once they are paired, which costs no more than reading the file."""
    count = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(BLOCK_BYTES):
            count += piece.count(QUOTE)
    return count % 2 == 1


def unclosed(path: Path, separator: str) -> int | None:
    """The line, counted from 1, that holds the quote that is never closed; None where all are.

    A quote opens a value only where the value begins. One that is never closed takes the next one, which
    opens a value further down, for its end: so a value over several lines is told, too, where text follows
    its end.
    """
    if not path.stat().st_size:
        return None
    opening = re.compile(b"(?:^|[\n\r" + re.escape(separator.encode()) + b'])"')
    ends = {b"", b"\n", b"\r", separator.encode()}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        place = 0
        while found := opening.search(text, place):
            start = found.end() - 1
            end = _end(text, start)
            if end is None or (text[end + 1 : end + 2] not in ends and text.find(b"\n", start, end) != -1):
                return _line(text, start)
            place = end + 1
    return None


def _end(text: mmap.mmap, start: int) -> int | None:
    """Where the value ends that the quote at `start` opens; two quotes in it stand for one."""
    place = start + 1
    while (place := text.find(QUOTE, place)) != -1:
        if text[place + 1 : place + 2] != QUOTE:
            return place
        place += 2
    return None


def _line(text: mmap.mmap, place: int) -> int:
    text.seek(0)
    line, left = 1, place
    while left and (piece := text.read(min(left, BLOCK_BYTES))):
        line += piece.count(b"\n")
        left -= len(piece)
    return line
