"""Rows of a stranger's file by named columns, a batch at a time: what every row-wise format is read as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from unicodedata import category

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import BLOCK_BYTES

Batch = Any  # pyarrow.RecordBatch
Column = Any  # pyarrow.Array
Medium = Literal["image", "npy"]

MISSING = pa.array(["", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"], pa.large_string())
MOST_COLUMNS = 10_000
MOST_BATCH_ROWS = 65_536
MOST_TEXT = 64 * 1024**2
MOST_NAME = 256
NO_NAME = f"empty, no printable text, or longer than {MOST_NAME} characters"
SHOWN = 20


@dataclass(frozen=True)
class Table:
    """A file's rows. Nothing of it is held in memory but the batch in hand.

    Attributes:
        names: of all columns.
        batches: reads the rows of some columns in order, again each time it is called.
        untyped: columns whose every value is text, numbers too, and where `MISSING` stands for no value.
        classes: names of a column's integer labels, where the file tells them.
        media: what binary columns hold.
        roles: the columns that are inputs, targets and id where the format says so by itself.
        rows: how many there are, where that is known before their values are read.
    """

    names: tuple[str, ...]
    batches: Callable[[Sequence[str]], Iterator[Batch]]
    untyped: frozenset[str] = frozenset()
    classes: Mapping[str, list[str]] = field(default_factory=dict)
    media: Mapping[str, Medium] = field(default_factory=dict)
    roles: Mapping[str, Any] = field(default_factory=dict)
    rows: int | None = None

    def is_untyped(self, name: str) -> bool:
        return name in self.untyped


def checked_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """The names of a file's columns.

    Raises:
        LoadError: there are none, too many, two of one name, or names that nobody can read.
    """
    if not names:
        raise LoadError("missing_array", f"The {what} has no columns.")
    if len(names) > MOST_COLUMNS:
        raise LoadError("shape_mismatch", f"The {what} has {len(names)} columns; {MOST_COLUMNS} at most.")
    if len(set(names)) < len(names):
        twice = next(name for at_, name in enumerate(names) if name in names[:at_])
        raise LoadError("unknown_array", f"The {what} has two columns {quoted(twice)!r}: name them apart.")
    for name in names:
        check_name(name, f"A column of the {what} has a name", pointer(name))
    return tuple(names)


def check_name(name: str, what: str, where: str = "") -> None:
    """Raises LoadError, with the pointer `where`, unless `is_name(name)`."""
    if not is_name(name):
        raise LoadError(
            "invalid_name",
            f"{what} that is {NO_NAME}: {quoted(name)!r}.",
            [at(where, f"has a name that is {NO_NAME}")] if where else [],
        )


def is_name(name: str) -> bool:
    """Whether it is text of at most `MOST_NAME` characters, without control characters."""
    return 0 < len(name) <= MOST_NAME and (name.isprintable() or all(map(_readable, name)))


def no_names(column: Column, texts: Iterable[str], start: int) -> dict[str, int]:
    """Those of the `texts` of a column that are no names, each with the row that has it first."""
    wrong = [text for text in texts if not is_name(text)]
    return {text: start + int(pc.index(column, text).as_py()) for text in wrong[:SHOWN]}


def refused_names(name: str, wrong: Mapping[str, int]) -> LoadError:
    """The refusal of `no_names` in a column of categories or labels."""
    shown = ", ".join(repr(quoted(text)) for text in list(wrong)[:3])
    return at_rows(
        "invalid_name",
        name,
        f"holds a name ({shown}) that is {NO_NAME}",
        sorted(wrong.values()),
        "Write plain text.",
    )


def _readable(character: str) -> bool:
    """Printable, or what people's text has besides: line ends, tabs, odd spaces, joiners, soft hyphens."""
    return character.isprintable() or character in "\n\r\t" or category(character) in ("Cf", "Zs", "Zl", "Zp")


def plain(column: Column, name: str) -> Column:
    """The column without dictionaries and extension types, which would hide what it holds."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        _check_unfolded(column, name)
        column = column.dictionary_decode()
    return column


def _check_unfolded(column: Column, name: str) -> None:
    """One long value that many rows name takes little room in the file, and much once written out."""
    kind = column.type.value_type
    if not (_is_text(kind) or _is_binary(kind)) or not len(column.dictionary):
        return
    longest = pc.max(pc.binary_length(column.dictionary)).as_py() or 0
    if longest * len(column) > MOST_TEXT and longest > 4096:
        used = pc.sum(pc.binary_length(pc.take(column.dictionary, pc.drop_null(pc.unique(column.indices)))))
        if longest * len(column) > MOST_TEXT + 50 * (used.as_py() or 0):
            raise LoadError(
                "unsafe_file",
                f"{quoted(name)} repeats values of up to {longest} bytes over and over. Data this empty are "
                "taken for a bomb: write the column without a dictionary.",
            )


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: Any) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


@lru_cache(maxsize=256)
def value_kind(kind: Any) -> str:
    """What a column's type holds: nothing, flags, integers, floats, text, binary, lists, struct or other."""
    if pa.types.is_dictionary(kind):
        return value_kind(kind.value_type)
    tests = {
        "nothing": pa.types.is_null,
        "flags": pa.types.is_boolean,
        "integers": pa.types.is_integer,
        "floats": lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind),
        "text": _is_text,
        "binary": _is_binary,
        "lists": lambda kind: (
            pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        ),
        "struct": pa.types.is_struct,
    }
    return next((name for name, holds in tests.items() if holds(kind)), "other")


def trimmed(column: Column) -> Column:
    """Text as numbers and categories are read out of it: without spaces around, `MISSING` as null."""
    column = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    return pc.if_else(pc.is_in(column, MISSING), None, column)


def first_kind(table: Table, name: str) -> tuple[str, Any]:
    """(`value_kind`, the first value that is there) of a column."""
    for batch in table.batches([name]):
        column = batch.column(0)
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        if value_kind(column.type) != "nothing" and column.null_count < len(column):
            return value_kind(column.type), pc.drop_null(column)[0].as_py()
    raise LoadError(
        "missing_array", f"The column {quoted(name)!r} holds no value.", [at(pointer(name), "is empty")]
    )


def slices(batch: Batch, rows: int) -> Iterator[tuple[int, Batch]]:
    """(first row in the batch, part of it) of at most `rows` rows each."""
    for start in range(0, batch.num_rows, rows):
        yield start, batch.slice(start, rows)


def rows_of(bytes_each: float) -> int:
    """How many rows of this size make a batch."""
    return int(max(1, min(MOST_BATCH_ROWS, BLOCK_BYTES // max(1.0, bytes_each))))


def at_rows(code: str, name: str, what: str, rows: Sequence[int], mend: str) -> LoadError:
    """A refusal of values in some rows of a column."""
    shown = ", ".join(map(str, rows[:10])) + (", …" if len(rows) > 10 else "")
    return LoadError(
        code,
        f"{quoted(name)} {what} in sample(s) {shown} (counted from 0). {mend}",
        [at(pointer(name, int(row)), what) for row in rows[:10]],
    )
