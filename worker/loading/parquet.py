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

from worker.loading.errors import LoadError, corrupt, quoted
from worker.loading.parquet_footer import Sizes, read_sizes
from worker.loading.table import Batch, Medium, Table, checked_names, rows_of, value_kind

MIB = 1024**2
MOST_FOOTER = 16 * MIB
BOMB_BYTES, BOMB_RATIO = 64 * MIB, 50
MOST_FOLDED = 64 * MIB
MOST_DELTA_ROWS = 1024  # of a batch: each may be as long as the longest, for next to nothing in the file
MOST_ROWS = 2**40
MOST_NAMES = 10_000
UNKNOWN = ("Not yet implemented", "currently not supported")  # the library's words for what is no damage


def open_parquet(path: Path) -> Table:
    """The table in the file, without its rows.

    Raises:
        LoadError: the footer is broken, or promises what the file cannot hold.
    """
    sizes = _checked_sizes(path)
    with _reading():
        schema = _opened(path, ()).schema_arrow
    names = checked_names(schema.names, "parquet file")
    folded = [
        name
        for name in names
        if value_kind(schema.field(name).type) in ("text", "binary") and name not in sizes.deltas
    ]
    rows = rows_of(sizes.unpacked / max(1, sizes.rows))
    size = path.stat().st_size

    def batches(columns: Sequence[str]) -> Iterator[Batch]:
        with _reading():
            # Text stays in its dictionary, so that a value which a million rows share is held once. The
            # library gathers the dictionaries of what it reads in one go: hence a row group at a time, and
            # only where such a group is small.
            small = sizes.widest <= MOST_FOLDED
            deltas, grown = [name for name in columns if name in sizes.deltas], 0
            file = _opened(path, [name for name in columns if small and name in folded])
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(
                    batch_size=min(rows, MOST_DELTA_ROWS) if deltas else rows,
                    row_groups=[group],
                    columns=list(columns),
                    use_threads=False,
                ):
                    grown += sum(batch.column(name).nbytes for name in deltas)
                    if _is_bomb(grown, size):
                        raise _bomb(size, grown, "with dictionaries, as pyarrow.parquet.write_table does")
                    batch.validate(full=True)  # offsets within bounds, text in UTF-8
                    yield batch

    media: dict[str, Medium] = dict.fromkeys(names, "image")
    return Table(names, batches, classes=_classes(schema), media=media, rows=sizes.rows)


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
    if _is_bomb(sizes.unpacked, size):
        raise _bomb(size, sizes.unpacked, "uncompressed")
    return sizes


def _is_bomb(unpacked: int, packed: int) -> bool:
    return unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed


def _bomb(packed: int, unpacked: int, how: str) -> LoadError:
    return LoadError(
        "unsafe_file",
        f"The parquet file unpacks from {packed} to {unpacked} bytes, over {BOMB_RATIO} times its "
        f"size. Data this empty are taken for a bomb: write them {how}.",
    )


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
    except MemoryError:
        raise  # which is for the fence to tell
    except (pa.ArrowException, OSError, ValueError, OverflowError) as broken:
        why = str(broken).splitlines()[0] if str(broken) else "no data"
        if isinstance(broken, pa.ArrowNotImplementedError) or any(words in why for words in UNKNOWN):
            raise LoadError(
                "unsupported_dtype",
                f"The parquet file cannot be read: {quoted(why)}. Write it again in the encodings that "
                "pyarrow takes by itself: pyarrow.parquet.write_table(table, path).",
            ) from broken
        raise corrupt("The parquet file", why) from broken
