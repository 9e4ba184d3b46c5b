"""What is exported is what stands in the file, in every format."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from hypothesis import strategies as st

from tests.hostile.examples import examples
from worker.export import WRITERS
from worker.exporting.table import Batch, Column, Kind, Table

CELLS: dict[Kind, st.SearchStrategy[Any]] = {
    "index": st.integers(0, 2**63 - 1),
    "whole": st.none() | st.integers(-(2**53), 2**53),
    "number": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.none() | st.booleans(),
    "text": st.none()
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12),
}
COLUMNS = tuple(Column(kind, kind) for kind in CELLS)
ROWS = st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=8)


@examples(ROWS, st.integers(1, 8), st.sampled_from(["parquet", "csv", "jsonl", "npz"]))
def test_exports(folder: Path, rows: list[dict[str, Any]], size: int, how: str) -> None:
    def batches() -> Iterator[Batch]:
        for start in range(0, len(rows), size):
            yield Batch(rows[start : start + size])

    path = Path(tempfile.mkdtemp(dir=folder)) / "file"
    assert sum(WRITERS[how](Table(COLUMNS, batches, len(rows), None, {}), path)) == len(rows)
    assert READERS[how](path) == rows


def _csv(path: Path) -> list[dict[str, Any]]:
    """Missing is empty; an apostrophe before a text was put there for spreadsheets."""
    parse: dict[str, Callable[[str], Any]] = {
        "index": int, "whole": int, "number": float, "flag": lambda cell: cell == "true",
        "text": lambda cell: cell.removeprefix("'"),
    }  # fmt: skip
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: parse[name](cell) if cell else None for name, cell in row.items()}
            for row in csv.DictReader(file)
        ]


def _npz(path: Path) -> list[dict[str, Any]]:
    """Missing numbers are NaN, texts empty, flags -1; a column without any value is left out."""
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name].tolist() for name in file.files}
    missing: dict[str, Callable[[Any], bool]] = {
        "text": lambda cell: not cell,
        "flag": lambda cell: cell == -1,
    }
    length = len(columns["index"])

    def cell(name: str, row: int) -> Any:
        if name not in columns:
            return None
        value = columns[name][row]
        if missing.get(name, lambda value: isinstance(value, float) and math.isnan(value))(value):
            return None
        return bool(value) if name == "flag" else value

    return [{name: cell(name, row) for name in CELLS} for row in range(length)]


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "parquet": lambda path: pq.read_table(path).to_pylist(),
    "jsonl": lambda path: [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line],
    "csv": _csv,
    "npz": _npz,
}
