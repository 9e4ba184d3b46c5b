"""Workers' counters: whatever was counted is added once."""

from __future__ import annotations

import pytest

from app.store import figures
from app.store.db import Database
from app.store.figures import Figures


def stored(database: Database) -> dict[tuple[str, str], float]:
    with database.snapshot() as session:
        return {(row.name, row.kind): row.value for row in figures.read(session)}


def test_what_could_not_be_written_is_written_the_next_time(database: Database) -> None:
    counted = Figures()
    counted.add("samples_scored", value=20)
    with pytest.raises(OSError, match="full"), database.transaction() as session:
        counted.write(session)
        counted.add("samples_scored", value=3)
        counted.add("unit_failures", "block")
        raise OSError("full")
    assert stored(database) == {}
    for _ in range(2):  # the second time there is nothing new
        with database.transaction() as session:
            counted.write(session)
        assert stored(database) == {("samples_scored", ""): 23, ("unit_failures", "block"): 1}
