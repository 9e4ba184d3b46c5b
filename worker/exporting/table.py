"""A table on its way into a file: what its columns hold, and its rows a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal["index", "whole", "number", "flag", "text"]
WIDE = "influences"


class Column(NamedTuple):
    """`index`: an integer, never missing; `whole`, `number`, `flag` and `text` may be."""

    name: str
    kind: Kind


class Batch(NamedTuple):
    """Rows by their columns' names, and a row [K] of influences for each, if the table has them."""

    rows: Sequence[dict[str, Any]]
    influences: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Table:
    """N rows of these columns; `batches()` reads them from the start.

    Attributes:
        queries: of a job by query, the indices [K] in the query data set that the influences are on.
        about: what a file with room for it says of itself.
    """

    columns: tuple[Column, ...]
    batches: Callable[[], Iterator[Batch]]
    length: int
    queries: NDArray[np.int64] | None
    about: dict[str, str]


def finite(value: Any) -> Any:
    """The value; None in place of what is no number, as the API has it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
