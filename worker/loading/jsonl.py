"""Opens JSON lines: an object a line, the keys of all lines the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from worker.loading.errors import LoadError, at, pointer
from worker.loading.json_values import column_of, key_names
from worker.loading.source import BLOCK_BYTES
from worker.loading.table import Batch, Table, checked_names

MOST_LINE = 8 * 1024**2
MOST_ROWS = 4096  # of a batch: Python's objects take many times a number's room
MOST_CELLS = 256 * MOST_ROWS  # of a batch, which a row has for each column, whatever it holds
BATCH_BYTES = BLOCK_BYTES // 4


def open_jsonl(path: Path) -> Table:
    """The table in the file, without its rows. Every line is read for its keys: a row may lack some, and a
    later one have more.

    Raises:
        LoadError: a line is no JSON object.
    """
    if next(_rows(path), None) is None:
        raise LoadError("shape_mismatch", "The jsonl has no samples: write an object a line.")
    keys, count = key_names((row for _, row in _rows(path)), "jsonl")
    names = checked_names(keys, "jsonl")

    def batches(columns: Sequence[str]) -> Iterator[Batch]:
        most = min(MOST_ROWS, max(1, MOST_CELLS // max(1, len(columns))))
        rows: list[dict[str, Any]] = []
        start = size = 0
        for length, row in _rows(path):
            rows.append(row)
            size += length
            if size >= BATCH_BYTES or len(rows) == most:
                yield _batch(rows, columns, start)
                start += len(rows)
                rows, size = [], 0
        if rows:
            yield _batch(rows, columns, start)

    return Table(names, batches, rows=count)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(bytes, object) of each line that is not empty."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_LINE + 1):
            number += 1
            if len(line) > MOST_LINE:
                raise _broken(number, f"has over {MOST_LINE} bytes")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as broken:
                raise _broken(number, "is no JSON, or no UTF-8") from broken
            except ValueError as broken:  # Python's own limit on the digits of a number
                raise _broken(number, "holds an integer beyond 64 bits, of thousands of digits") from broken
            if not isinstance(row, dict):
                raise _broken(number, "is no object {…}")
            yield len(line), row


def _broken(number: int, what: str) -> LoadError:
    return LoadError(
        "corrupt_file",
        f"Line {number} of the jsonl {what}. Write one JSON object a line, each with the same keys.",
        [at(pointer("line", number), what)],
    )


def _batch(rows: list[dict[str, Any]], columns: Sequence[str], start: int) -> Batch:
    return pa.RecordBatch.from_arrays(
        [column_of([row.get(name) for row in rows], name, start) for name in columns], names=list(columns)
    )
