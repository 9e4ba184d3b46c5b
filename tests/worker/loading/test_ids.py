"""Ids are told apart in bounded memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.loading import LoadError, ids
from worker.loading.ids import IdWriter, check_distinct


def written(path: Path, texts: list[str]) -> Path:
    with IdWriter(len(texts), 8, path, "name") as writer:
        writer.write(texts)
    return path


@pytest.mark.parametrize("at_once", [2_000_000, 1000])
def test_an_id_that_is_there_twice_is_found_in_any_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(ids, "AT_ONCE", at_once)
    texts = [f"id {i}" for i in range(9_000)]
    check_distinct(written(tmp_path / "distinct.npy", texts))
    texts[8_000] = texts[17]
    with pytest.raises(LoadError, match="samples 17 and 8000") as refused:
        check_distinct(written(tmp_path / "twice.npy", texts), "name")
    assert refused.value.errors[0]["pointer"] == "/name/8000"
    with pytest.raises(LoadError, match="samples 0 and 1;"):
        check_distinct(written(tmp_path / "same.npy", ["same"] * 5_000))
