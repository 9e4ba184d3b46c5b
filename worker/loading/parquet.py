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
from worker.loading.parquet_footer import Sizes, read_sizes
from worker.loading.table import Batch, Table, checked_names, rows_of, value_kind

MIB = 1024**2
MOST_FOOTER = 16 * MIB
BOMB_BYTES, BOMB_RATIO = 64 * MIB, 50
MOST_FOLDED = 64 * MIB
MOST_ROWS = 2**40
MOST_NAMES = 10_000


def open_parquet(path: Path) -> Table:
    """The table in the file, without its rows.

    Raises:
        LoadError: the footer is broken, or promises what the file cannot hold.
    """
    sizes = _checked_sizes(path)
    with _reading():
        schema = _opened(path, ()).schema_arrow
    names = checked_names(schema.names, "parquet file")
    folded = [name for name in names if value_kind(schema.field(name).type) in ("text", "binary")]
    rows = rows_of(sizes.unpacked / max(1, sizes.rows))

    def batches(columns: Sequence[str]) -> Iterator[Batch]:
        with _reading():
            # Text stays in its dictionary, so that a value which a million rows share is held once. The
            # library gathers the dictionaries of what it reads in one go: hence a row group at a time, and
            # only where such a group is small.
            small = sizes.widest <= MOST_FOLDED
            file = _opened(path, [name for name in columns if small and name in folded])
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(
                    batch_size=rows, row_groups=[group], columns=list(columns), use_threads=False
                ):
                    batch.validate(full=True)  # offsets within bounds, text in UTF-8
                    yield batch

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


def _checked_sizes(path: Path) -> Sizes:
    """What the footer promises, held against the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        end = file.read(8)
        if end[4:] != b"PAR1":
            raise corrupt("The parquet file", "it does not end as one")
        length = int.from_bytes(end[:4], "little")
        if length > size - 12:
            why = f"its footer should have {length} bytes, but the file has {size}"
            raise corrupt("The parquet file", why)
        if length > MOST_FOOTER:
            raise LoadError("unsafe_file", f"The parquet footer has {length} bytes; {MOST_FOOTER} at most.")
        file.seek(size - 8 - length)
        footer = file.read(length)
    try:
        sizes = read_sizes(footer)
    except ValueError as broken:
        raise corrupt("The parquet file's footer", str(broken)) from broken
    if sizes.largest > size or sizes.rows > MOST_ROWS:
        raise corrupt("The parquet file", "its footer promises more than the file can hold")
    if sizes.unpacked > BOMB_BYTES and sizes.unpacked > BOMB_RATIO * size:
        raise LoadError(
            "unsafe_file",
            f"The parquet file unpacks from {size} to {sizes.unpacked} bytes, over {BOMB_RATIO} times its "
            "size. Data this empty are taken for a bomb: write them uncompressed.",
        )
    return sizes


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
