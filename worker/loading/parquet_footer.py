"""The sizes that a parquet file's footer promises, read by ourselves: nothing is allocated on their word, and
the library's own view of them, which ends the process over some, is not asked.

Format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, in Thrift's
compact protocol, https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)
MOST_DEPTH = 16
DELTA_TEXT = {6, 7}  # encodings of text by what differs from the value before, DELTA_(LENGTH_)BYTE_ARRAY


@dataclasses.dataclass
class Sizes:
    """What a footer tells: `unpacked` bytes of all columns' chunks; of one, `largest` as it lies packed and
    `widest` unpacked; `deltas`, columns whose text is encoded by differences, and comes to more than that.
    """

    rows: int = 0
    chunks: int = 0
    unpacked: int = 0
    largest: int = 0
    widest: int = 0
    deltas: set[str] = dataclasses.field(default_factory=set)


def read_sizes(footer: bytes) -> Sizes:
    """The sizes in a footer.

    Raises:
        ValueError: it is no footer, or tells of negative sizes, of columns without any, or of other files.
    """
    reader, sizes = _Reader(footer), Sizes()
    for field, kind in reader.fields():
        if (field, kind) == (3, I64):
            sizes.rows = reader.number()
        elif (field, kind) == (4, LIST):
            for _ in reader.listed(STRUCT):
                _row_group(reader, sizes)
        else:
            reader.skip(kind)
    if sizes.rows < 0:
        raise ValueError("it tells of fewer rows than none")
    return sizes


def _row_group(reader: _Reader, sizes: Sizes) -> None:
    for field, kind in reader.fields():
        if (field, kind) == (1, LIST):
            for _ in reader.listed(STRUCT):
                _chunk(reader, sizes)
        else:
            reader.skip(kind)


def _chunk(reader: _Reader, sizes: Sizes) -> None:
    told = False
    for field, kind in reader.fields():
        if (field, kind) == (1, BINARY):
            raise ValueError("a column lies in another file")
        if (field, kind) == (3, STRUCT):
            _column(reader, sizes)
            told = True
        else:
            reader.skip(kind)
    if not told:
        raise ValueError("a column tells nothing of itself")
    sizes.chunks += 1


def _column(reader: _Reader, sizes: Sizes) -> None:
    found, encodings, path = {6: -1, 7: -1}, set[int](), list[str]()
    for field, kind in reader.fields():
        if field in found and kind == I64:
            found[field] = reader.number()
        elif (field, kind) == (2, LIST):
            encodings |= {reader.number() for _ in reader.listed(I32)}
        elif (field, kind) == (3, LIST):
            path += [reader.text() for _ in reader.listed(BINARY)]
        else:
            reader.skip(kind)
    if min(found.values()) < 0:
        raise ValueError("a column tells no size")
    sizes.unpacked += found[6]
    sizes.largest = max(sizes.largest, found[7])
    sizes.widest = max(sizes.widest, found[6])
    if encodings & DELTA_TEXT:
        sizes.deltas.update(path[:1])


class _Reader:
    """Thrift's compact protocol; ValueError where the bytes end too early or nest too deeply."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """(id, type) of a struct's fields; the caller reads or skips each value before the next."""
        field = 0
        while (head := self._byte()) != STOP:
            delta, kind = head >> 4, head & 15
            field = field + delta if delta else self.number()
            yield field, kind

    def listed(self, wanted: int) -> Iterator[int]:
        """Once for each element of a list, which are of this type."""
        size, kind = self._list()
        if kind != wanted:
            raise ValueError("a list holds something else than it should")
        yield from range(size)

    def text(self) -> str:
        length = self._unsigned()
        self._move(length)
        return self._data[self._at - length : self._at].decode(errors="replace")

    def number(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int, depth: int = 0) -> None:
        if depth > MOST_DEPTH:
            raise ValueError("it nests too deeply")
        if kind in (BYTE, TRUE, FALSE):
            self._move(int(kind == BYTE))
        elif kind in (I16, I32, I64):
            self._unsigned()
        elif kind == DOUBLE:
            self._move(8)
        elif kind == BINARY:
            self._move(self._unsigned())
        elif kind in (LIST, SET):
            size, element = self._list()
            for _ in range(size):
                self._element(element, depth)
        elif kind == MAP:
            size = self._unsigned()
            kinds = self._byte() if size else 0
            for _ in range(size):
                self._element(kinds >> 4, depth)
                self._element(kinds & 15, depth)
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:
            raise ValueError(f"it holds a value of type {kind}")

    def _element(self, kind: int, depth: int) -> None:
        if kind in (TRUE, FALSE):  # a byte each in lists, where fields have it in their head
            self._move(1)
        else:
            self.skip(kind, depth + 1)

    def _list(self) -> tuple[int, int]:
        head = self._byte()
        size = head >> 4
        return (self._unsigned() if size == 15 else size), head & 15

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("it holds a number of more than 64 bits")

    def _byte(self) -> int:
        self._move(1)
        return self._data[self._at - 1]

    def _move(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):
            raise ValueError("it ends too early")
