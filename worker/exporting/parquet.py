"""parquet: a column each, and one of lists for the influences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from worker.exporting.table import WIDE, Batch, Kind, Table

TYPES: dict[Kind, Any] = {
    "index": pa.int64(),
    "whole": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "text": pa.string(),
}


def write_parquet(table: Table, path: Path) -> Iterator[int]:
    """Writes the rows, a row group a batch, telling of each how many it held."""
    fields = [
        pa.field(column.name, TYPES[column.kind], nullable=column.kind != "index") for column in table.columns
    ]
    if table.queries is not None:
        fields.append(pa.field(WIDE, pa.list_(pa.float32(), len(table.queries))))
    schema = pa.schema(fields, metadata=table.about)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in table.batches():
            writer.write_table(pa.Table.from_arrays(list(_arrays(batch, schema)), schema=schema))
            yield len(batch.rows)


def _arrays(batch: Batch, schema: Any) -> Iterator[Any]:
    for field in schema:
        if field.name == WIDE and batch.influences is not None:
            flat = pa.array(batch.influences.reshape(-1), pa.float32())
            yield pa.FixedSizeListArray.from_arrays(flat, batch.influences.shape[1])
        else:  # from_pandas: what is no number is missing
            yield pa.array([row[field.name] for row in batch.rows], field.type, from_pandas=True)
