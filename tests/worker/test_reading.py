"""What reading a file may take: the time that docs/operations.md tells of."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings
from worker.reading import bounds_of

GIB = 1024**3


@pytest.mark.parametrize(
    ("size", "seconds"), [(0, 120), (100 * 1024**2, 240), (5 * GIB, 104.4 * 60), (64 * GIB, 21.88 * 3600)]
)
def test_a_file_has_time_by_its_size(tmp_path: Path, size: int, seconds: float) -> None:
    """A lower setting bounds what a file has, and what it has for its size."""
    assert bounds_of(Settings(data_dir=tmp_path), size).seconds == pytest.approx(seconds, rel=1e-3)
    lower = Settings(data_dir=tmp_path, reader_seconds=12)
    assert bounds_of(lower, size).seconds == pytest.approx(seconds / 10, rel=1e-3)
