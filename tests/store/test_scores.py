"""Scores: ranked once, read in every order by keyset pages, dropped with their job."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sqlalchemy import func, select

from app.store import scores
from app.store.db import Database, new_id
from app.store.tables import Score

finite = st.floats(-5, 5, allow_nan=False).map(lambda x: round(x, 1))  # ties happen


def write(database: Database, values: np.ndarray, **columns: object) -> str:
    job_id = new_id("job")
    n = len(values)
    with database.transaction() as session:
        scores.write(
            session,
            job_id,
            {
                "sample_index": np.arange(n),
                "score": values,
                "rank": scores.ranks(values),
                "label": np.arange(n) % 3,
                "predicted_label": np.zeros(n),
                "loss": np.abs(values),
                "contributions": np.stack([values / 2, values / 2], axis=1),
                "losses": np.zeros((n, 2)),
            }
            | columns,
        )
    return job_id


def walk(database: Database, job_id: str, order: str, limit: int, **filters: float) -> list[int]:
    found: list[int] = []
    after = None
    with database.snapshot() as session:
        while rows := scores.page(session, job_id, order, limit, after=after, **filters):
            assert len(rows) <= limit
            found += [row.sample_index for row in rows]
            after = scores.position(rows[-1], order)
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=arrays(np.float64, st.integers(1, 40), elements=finite), limit=st.integers(1, 15))
def test_pages_give_every_row_once_in_order(database: Database, values: np.ndarray, limit: int) -> None:
    job_id = write(database, values, self_influence=-values)
    n = range(len(values))
    assert walk(database, job_id, "index", limit) == list(n)
    assert walk(database, job_id, "harmful", limit) == sorted(n, key=lambda i: (-values[i], i))
    assert walk(database, job_id, "helpful", limit) == sorted(n, key=lambda i: (values[i], i))
    assert walk(database, job_id, "self_influence", limit) == sorted(n, key=lambda i: (values[i], i))


def test_filters_narrow_every_order(database: Database) -> None:
    values = np.linspace(-1, 1, 21)
    job_id = write(database, values)
    assert walk(database, job_id, "index", 4, label=1) == list(range(1, 21, 3))
    assert walk(database, job_id, "harmful", 4, least=0.0, most=0.5) == [15, 14, 13, 12, 11, 10]


def test_a_row_keeps_its_contributions_to_the_bit(database: Database) -> None:
    values = np.array([0.1, -1 / 3, 1e-300])
    job_id = write(database, values)
    with database.snapshot() as session:
        row = scores.one(session, job_id, 1)
        assert row is not None
        assert row.score == values[1]
        assert scores.contributions(row) == [values[1] / 2, values[1] / 2]
        assert scores.one(session, job_id, 3) is None


def test_dropping_a_job_leaves_the_others(database: Database) -> None:
    kept, dropped = write(database, np.arange(5.0)), write(database, np.arange(7.0))
    with database.transaction() as session:
        scores.drop(session, dropped)
    with database.snapshot() as session:
        assert session.execute(select(func.count()).select_from(Score)).scalar_one() == 5
    assert walk(database, kept, "index", 10) == list(range(5))


def test_histogram_and_classes_count_every_row(database: Database) -> None:
    values = np.linspace(-1, 1, 30)
    job_id = write(database, values)
    with database.snapshot() as session:
        assert sum(n for _, n in scores.histogram(session, job_id, -1, 1, 8)) == 30
        classes = scores.by_label(session, job_id)
        assert [row["count"] for row in classes] == [10, 10, 10]
        assert sum(row["harmful"] for row in classes) == (values > 0).sum()
        assert scores.at_rank(session, job_id, 1) == pytest.approx(1)


def test_a_partition_is_named_after_a_job_id_only() -> None:
    with pytest.raises(ValueError, match="not a job id"):
        scores.partition("job_1; drop table jobs")
