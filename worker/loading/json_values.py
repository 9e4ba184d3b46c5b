"""Objects out of JSON as columns: their keys name them, their values fill them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.table import MOST_COLUMNS, Column, at_rows, check_name, checked_names

INT64 = range(-(2**63), 2**63)


def key_names(objects: Iterable[Mapping[str, Any]], what: str) -> tuple[list[str], int]:
    """The keys of all objects, each where it first appears, and how many objects there are: an object may
    lack some keys, none is left out.

    Raises:
        LoadError: there are too many, or keys that nobody can read.
    """
    names: dict[str, None] = {}
    count = 0
    for one in objects:
        count += 1
        if one.keys() <= names.keys():
            continue
        for name in one:
            check_name(name, f"A column of the {what} has a name", pointer(name))
        names |= dict.fromkeys(one)
        if len(names) > MOST_COLUMNS:  # held no longer than until here
            checked_names(list(names), what)
    return list(names), count


def column_of(values: Sequence[Any], name: str, start: int) -> Column:
    """The values of rows `start` and on, None where a row has none.

    Raises:
        LoadError: they are of several kinds, or integers beyond 64 bits.
    """
    try:
        return pa.array(values)
    except MemoryError:
        raise  # which is for the fence to tell
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as refused:
        rows = [row for row, value in enumerate(values, start) if _is_beyond(value)]
        if rows:
            raise at_rows(
                "unsupported_dtype",
                name,
                "holds an integer beyond 64 bits",
                rows,
                f"Integers go from {INT64.start} to {INT64.stop - 1}: write larger ones as text, as ids and "
                'labels may be ("…"), or with a decimal point.',
            ) from refused
        raise LoadError(
            "unsupported_dtype",
            f"{quoted(name)!r} in samples {start} to {start + len(values) - 1} holds values of several "
            "kinds: write numbers, text or lists of numbers, one kind a column.",
            [at(pointer(name), "holds values of several kinds")],
        ) from refused


def _is_beyond(value: Any) -> bool:
    """Whether it is such an integer, or one is in it."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += one
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, int) and one not in INT64:
            return True
    return False
