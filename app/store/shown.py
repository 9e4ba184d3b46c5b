"""Samples as people look at them where the arrays do not tell: texts, or rows as they were sent.

One file: the texts in UTF-8, one after the other, then where each begins, and the last one
ends, int64 [N + 1].
"""

from __future__ import annotations

import os
from pathlib import Path

from app.store.rows import opened


class Shown:
    """The texts of N samples, read one at a time."""

    def __init__(self, path: Path, count: int) -> None:
        self._file = opened(self, path)
        self._ends = path.stat().st_size - 8 * (count + 1)

    def __getitem__(self, index: int) -> str:
        pair = os.pread(self._file, 16, self._ends + 8 * index)
        start, end = (int.from_bytes(pair[at : at + 8], "little") for at in (0, 8))
        return os.pread(self._file, end - start, start).decode()
