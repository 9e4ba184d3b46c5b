"""Writes samples as people will look at them: texts, or the rows of a table; app/store/shown.py reads it."""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from worker.loading.source import BLOCK_BYTES

MOST_COLUMNS = 256  # of a row that is worth reading


class ShownWriter:
    """One text a sample, in order; where each begins follows at the end of the file."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self._file = path.open("wb")
        # 8 bytes a sample are too many to hold
        self._starts = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  (closed with the writer)
        self._place = 0
        self._starts.write(bytes(8))

    def __enter__(self) -> ShownWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._starts.close()

    def write(self, texts: Iterable[str]) -> None:
        data = [text.encode("utf-8", "replace") for text in texts]
        ends = self._place + np.cumsum([len(one) for one in data], dtype="<i8")
        self._file.write(b"".join(data))
        self._starts.write(ends.tobytes())
        self._place = int(ends[-1])

    def finish(self) -> None:
        self._starts.seek(0)
        while piece := self._starts.read(BLOCK_BYTES):
            self._file.write(piece)


def as_json(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Rows of a table as JSON objects."""
    return [json.dumps(row, ensure_ascii=False, default=_plain) for row in rows]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date | datetime.datetime) else str(value)
