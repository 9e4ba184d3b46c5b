"""Loading a file of given bytes, and seeing it refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.worker.loading.files import (
    Load,
    Refuse,
)
from worker.loading import Asked, DatasetInfo, LoadError, load_dataset


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def load(tmp_path: Path, out: Path) -> Load:
    """Loads a file of the bytes given."""

    def load_bytes(data: bytes, announced: str | None = None, **asked: Any) -> DatasetInfo:
        path = tmp_path / "upload"
        path.write_bytes(data)
        return load_dataset(path, announced, out, Asked(**asked))

    return load_bytes


@pytest.fixture
def refuse(load: Load, out: Path) -> Refuse:
    """Loads a file of the bytes given, which must be refused with nothing left behind."""

    def refuse_bytes(data: bytes, code: str, announced: str | None = None, **asked: Any) -> LoadError:
        with pytest.raises(LoadError) as refused:
            load(data, announced, **asked)
        assert refused.value.code == code, refused.value.detail
        assert not list(out.iterdir())
        return refused.value

    return refuse_bytes
