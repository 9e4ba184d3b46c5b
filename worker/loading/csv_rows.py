"""Opens csv: the first line names the columns, every value is text until somebody asks for numbers."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.csv as pc  # type: ignore[import-untyped]

from worker.loading.errors import LoadError, at, corrupt, pointer, quoted
from worker.loading.quotes import has_odd_quotes, unclosed
from worker.loading.source import BLOCK_BYTES
from worker.loading.table import Batch, Table, checked_names

MIB = 1024**2
MOST_HEADER = 1 * MIB
BLOCK = 1 * MIB  # also the longest row; the library reads some thirty of them ahead
WIDE = 256  # columns, from which on a block holds few rows
SEPARATORS = (",", ";", "\t")


def open_csv(path: Path, names: Sequence[str] | None) -> Table:
    """The table in the file, without its rows; separated by commas, semicolons or tabs.

    Args:
        names: of the columns, for a file without a line that names them.

    Raises:
        LoadError: the first line names no columns, or is no text.
    """
    head = _first_line(path)
    separator = max(SEPARATORS, key=re.sub(r'"[^"]*"', "", head).count)
    fields = _fields(head, separator)
    if names is not None and len(names) != len(fields):
        raise LoadError(
            "shape_mismatch",
            f"columns.names has {len(names)} names, but the csv has {len(fields)} columns.",
        )
    columns = checked_names(list(names) if names is not None else fields, "csv")
    if has_odd_quotes(path):
        _check_closed(path, separator)

    def batches(wanted: Sequence[str]) -> Iterator[Batch]:
        with (
            _reading(path, separator),
            _opened(path, columns, wanted, separator, skip=names is None) as reader,
        ):
            parts = (batch.select(list(wanted)) for batch in reader if batch.num_rows)
            yield from parts if len(wanted) < WIDE else _gathered(parts)

    return Table(columns, batches, untyped=frozenset(columns))


def _gathered(parts: Iterable[Batch]) -> Iterator[Batch]:
    """Batches of wide rows put together: what a batch costs for each column is worth some more rows."""
    held: list[Batch] = []
    for part in parts:
        held.append(part)
        if sum(one.nbytes for one in held) >= BLOCK_BYTES:
            yield _one(held)
            held = []
    if held:
        yield _one(held)


def _one(batches: list[Batch]) -> Batch:
    [batch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return batch


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(MOST_HEADER)
    line, ended, _ = start.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    if not ended and len(start) == MOST_HEADER:
        raise LoadError("corrupt_file", f"The csv's first line has over {MOST_HEADER} bytes.")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise LoadError("corrupt_file", "The csv is UTF-16: save it as UTF-8.")
    try:
        text = line.decode().rstrip("\r")
    except UnicodeDecodeError as broken:
        raise LoadError(
            "corrupt_file", "The csv's first line is no UTF-8 text: save it as UTF-8."
        ) from broken
    if not text.strip() or "\x00" in text:
        raise LoadError("corrupt_file", "The csv's first line names no columns.")
    return text


def _fields(line: str, separator: str) -> list[str]:
    try:
        return [one.strip() for one in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    except csv.Error as broken:  # a carriage return within, or a name of over 128 KiB
        detail = f"The csv's first line cannot be read ({broken}): end its lines with a line feed."
        raise LoadError("corrupt_file", detail) from broken


@contextmanager
def _opened(
    path: Path, columns: Sequence[str], wanted: Sequence[str], separator: str, *, skip: bool
) -> Iterator[Any]:
    """Quoted values may hold line breaks; a row ends up in one block, so a block bounds the memory."""
    with pc.open_csv(
        path,
        pc.ReadOptions(use_threads=False, block_size=BLOCK, column_names=list(columns), skip_rows=int(skip)),
        pc.ParseOptions(delimiter=separator, newlines_in_values=True),
        pc.ConvertOptions(
            column_types={name: pa.large_string() for name in columns},
            include_columns=list(wanted),
            strings_can_be_null=False,
        ),
    ) as reader:
        yield reader


def _check_closed(path: Path, separator: str) -> None:
    """Raises LoadError where a quote is never closed: up to the next one, rows would pass for one value."""
    if (line := unclosed(path, separator)) is not None:
        raise LoadError(
            "corrupt_file",
            f"The csv cannot be read: the quote opened at line {line} is never closed. Close it, or write a "
            'quote that belongs to a value twice, in quotes: "5"" pipe".',
            [at(pointer("line", line), "opens a quote that is never closed")],
        )


@contextmanager
def _reading(path: Path, separator: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise  # which is for the fence to tell
    except (pa.ArrowException, ValueError, OSError) as broken:
        words = quoted(str(broken).splitlines()[0])
        if not isinstance(broken, pa.ArrowInvalid):
            raise corrupt("The csv", words) from broken
        _check_closed(path, separator)
        mend = "Mend this row."
        if "straddling" in words:
            words = f"a row has over {BLOCK} bytes"
        elif "UTF8" in words:
            mend = "The file is in another encoding, such as latin-1: save it as UTF-8."
        raise LoadError("corrupt_file", f"The csv cannot be read: {words}. {mend}") from broken
