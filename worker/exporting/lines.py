"""csv and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.store.spreadsheets import harmless
from worker.exporting.table import WIDE, Batch, Table, finite


def write_csv(table: Table, path: Path) -> Iterator[int]:
    """Writes the rows, telling of each batch how many it held. What is missing is an empty cell."""
    names = [column.name for column in table.columns]
    text = {column.name for column in table.columns if column.kind == "text"}
    wide = [] if table.queries is None else [f"{WIDE[:-1]}_{query}" for query in table.queries]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, *wide])
        for batch in table.batches():
            writer.writerows(_cells(batch, names, text))
            yield len(batch.rows)


def _cells(batch: Batch, names: list[str], text: set[str]) -> Iterator[list[Any]]:
    for at, row in enumerate(batch.rows):
        cells = [harmless(row[name]) if name in text else _plain(row[name]) for name in names]
        if batch.influences is not None:
            cells += [format(value, ".9g") for value in batch.influences[at].tolist()]
        yield cells


def _plain(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else finite(value)


def write_jsonl(table: Table, path: Path) -> Iterator[int]:
    """Writes each row as an object with the API's fields; influences are a list in the order of queries."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in table.batches():
            for at, row in enumerate(batch.rows):
                told = {name: finite(value) for name, value in row.items()}
                if batch.influences is not None:
                    told[WIDE] = [finite(value) for value in batch.influences[at].tolist()]
                file.write(json.dumps(told, ensure_ascii=False, allow_nan=False) + "\n")
            yield len(batch.rows)
