"""Opens parquet: row groups are read page by page, a batch of rows at a time.

Format: https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from worker.loading.errors import LoadError, corrupt
from worker.loading.table import Batch, Table, checked_names, rows_of, value_kind

MIB = 1024**2
MOST_FOOTER = 32 * MIB
BOMB_BYTES, BOMB_RATIO = 64 * MIB, 50
MOST_ROWS = 2**40
MOST_NAMES = 10_000


def open_parquet(path: Path) -> Table:
    """The table in the file, without its rows.

    Raises:
        LoadError: the footer is broken, or promises what the file cannot hold.
    """
    _check_footer(path)
    with _reading():
        file = _opened(path, ())
        metadata, schema = file.metadata, file.schema_arrow
    names = checked_names(schema.names, "parquet file")
    _check_sizes(metadata, path.stat().st_size)
    folded = [name for name in names if value_kind(schema.field(name).type) in ("text", "binary")]
    packed = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    rows = rows_of(packed / max(1, metadata.num_rows))

    def batches(columns: Sequence[str]) -> Iterator[Batch]:
        with _reading():
            # Text stays in its dictionary, so that a value which a million rows share is held once.
            file = _opened(path, [name for name in columns if name in folded])
            yield from file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)

    return Table(names, batches, classes=_classes(schema), media=dict.fromkeys(names, "image"))


def _opened(path: Path, folded: Sequence[str]) -> Any:
    return pq.ParquetFile(
        path,
        buffer_size=MIB,
        pre_buffer=False,
        read_dictionary=list(folded),
        thrift_string_size_limit=MOST_FOOTER,
        thrift_container_size_limit=1_000_000,
    )


def _check_footer(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read(8)
    if end[4:] != b"PAR1":
        raise corrupt("The parquet file", "it does not end as one")
    length = int.from_bytes(end[:4], "little")
    if length > size - 12:
        raise corrupt("The parquet file", f"its footer should have {length} bytes, but the file has {size}")
    if length > MOST_FOOTER:
        raise LoadError("unsafe_file", f"The parquet footer has {length} bytes; {MOST_FOOTER} at most.")


def _check_sizes(metadata: Any, size: int) -> None:
    """What the footer promises, held against the file: nothing has been allocated on its word yet."""
    unpacked = 0
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            needed, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
            if packed < 0 or needed < 0 or packed > size:
                raise corrupt("The parquet file", "a column is larger than the file")
            unpacked += needed
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * size:
        raise LoadError(
            "unsafe_file",
            f"The parquet file unpacks from {size} to {unpacked} bytes, over {BOMB_RATIO} times its size. "
            "Data this empty are taken for a bomb: write them uncompressed.",
        )
    if not 0 <= metadata.num_rows <= MOST_ROWS:
        raise corrupt("The parquet file", f"it promises {metadata.num_rows} rows")


def _classes(schema: Any) -> dict[str, list[str]]:
    """Names of labels, where the `datasets` library wrote them beside the columns."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"].items()
        found = {name: one["names"] for name, one in features if one.get("_type") == "ClassLabel"}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}
    return {
        name: names
        for name, names in found.items()
        if isinstance(names, list) and len(names) <= MOST_NAMES and all(isinstance(n, str) for n in names)
    }


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as broken:
        raise corrupt(
            "The parquet file", str(broken).splitlines()[0] if str(broken) else "no data"
        ) from broken
