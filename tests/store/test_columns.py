"""Columns of scores: the same samples in the same order as the table gives, at any place of any filter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.store import columns, orders, scores
from app.store.columns import Columns, Filter
from app.store.db import Database, new_id

ORDERS = ("harmful", "helpful", "suspicion", "self_influence", "index")
few = st.integers(-2, 2).map(float)  # ties happen


def draw(data: st.DataObject) -> dict[str, Any]:
    n = data.draw(st.integers(1, 25))
    values = {
        name: np.array(data.draw(st.lists(few, min_size=n, max_size=n)))
        for name in ("score", "label", "predicted_label", "loss", "suspicion", "self_influence")
    }
    return values | {"rank": scores.ranks(values["score"])}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_they_agree_with_the_table(database: Database, tmp_path: Path, data: st.DataObject) -> None:
    values, job_id = draw(data), new_id("job")
    n = len(values["score"])
    parts = {"contributions": np.zeros((n, 1)), "losses": np.zeros((n, 1))}
    with database.transaction() as session:
        scores.write(session, job_id, {"sample_index": np.arange(n), **values, **parts})
    columns.write(tmp_path / "columns.npy", values)
    found = Columns(np.load(tmp_path / "columns.npy"))
    label, least = data.draw(st.none() | few), data.draw(st.none() | few)
    passing = found.passing(Filter(label=label, least=least))
    for order in ORDERS:
        with database.snapshot() as session:
            table = orders.page(session, job_id, order, n, label=label, least=least)
        expected = [row.sample_index for row in table]
        start, limit = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
        assert found.page(order, passing, start, limit) == expected[start : start + limit]
        places = {index: found.place(order, passing, index) for index in range(n)}
        assert places == {i: expected.index(i) if i in expected else None for i in range(n)}


def test_a_filter_takes_predictions_and_disagreements(tmp_path: Path) -> None:
    values = {
        "score": np.zeros(4),
        "label": np.array([0, 0, 1, 1]),
        "predicted_label": np.array([0, 1, 1, 0]),
    }
    columns.write(tmp_path / "columns.npy", values)
    found = Columns(np.load(tmp_path / "columns.npy"))
    passing = {
        name: found.passing(wanted)
        for name, wanted in {
            "all": Filter(),
            "predicted 1": Filter(predicted=1),
            "differing": Filter(differing=True),
            "1 as 0": Filter(label=1, predicted=0),
            "most": Filter(by="label", most=0),
        }.items()
    }
    assert passing.pop("all") is None
    assert {name: list(np.asarray(rows)) for name, rows in passing.items()} == {
        "predicted 1": [1, 2],
        "differing": [1, 3],
        "1 as 0": [3],
        "most": [0, 1],
    }
    assert np.isnan(found["suspicion"]).all()


@given(st.lists(few, max_size=12), st.integers(0, 14), st.integers(0, 14))
def test_a_stretch_of_the_sorted_values_with_ties_by_place(
    values: list[float], start: int, size: int
) -> None:
    expected = sorted(range(len(values)), key=lambda at: (values[at], at))[start : start + size]
    assert list(columns.ranked(np.array(values), start, start + size)) == expected
