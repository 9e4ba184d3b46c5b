"""Scores: ranked once, read in every order by keyset pages, dropped with their job."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sqlalchemy import event, func, select, text

from app.store import orders, partitions, scores
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


@pytest.fixture
def large_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job counts as a large one."""
    monkeypatch.setattr(partitions, "SMALL", 0)


def walk(database: Database, job_id: str, order: str, limit: int, **filters: float) -> list[int]:
    found: list[int] = []
    after = None
    with database.snapshot() as session:
        while rows := orders.page(session, job_id, order, limit, after=after, **filters):
            assert len(rows) <= limit
            found += [row.sample_index for row in rows]
            after = orders.position(rows[-1], order)
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


def test_pages_go_on_in_the_middle_of_a_tie(database: Database) -> None:
    values = np.array([0.5, 0.25, 0.5, 0.5, 0.25, 0.75, 0.5, 0.25])
    job_id = write(database, values, suspicion=values, self_influence=values)
    falling = sorted(range(8), key=lambda i: (-values[i], i))
    for order in ("harmful", "suspicion", "self_influence"):
        for limit in range(1, 9):
            assert walk(database, job_id, order, limit) == falling
    assert walk(database, job_id, "helpful", 3) == sorted(range(8), key=lambda i: (values[i], i))


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"least": 0.25}, [3, 1, 4, 0, 2]),
        ({"most": 0.25}, [0, 2, 5]),
        ({"least": 0.3, "most": 0.6}, [1, 4]),
        ({"least": 0.9}, []),
        ({"most": -1.0}, []),
        ({"least": 0.3, "most": 0.4}, []),
    ],
)
def test_the_most_harmful_within_bounds(
    database: Database, bounds: dict[str, float], expected: list[int]
) -> None:
    job_id = write(database, np.array([0.25, 0.5, 0.25, 0.75, 0.5, -0.5]))
    for limit in (1, 2, 10):
        assert walk(database, job_id, "harmful", limit, **bounds) == expected


@pytest.mark.parametrize("alone", [True, False], ids=["large", "small"])
@pytest.mark.parametrize("order", orders.KEYS)
def test_a_page_reads_its_own_rows_and_no_others(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, order: str, alone: bool
) -> None:
    database, n = Database(postgres_url), 20_000
    monkeypatch.setattr(partitions, "SMALL", n - 1 if alone else n)
    values = np.random.default_rng(0).normal(size=n).round(1)  # hundreds in each tie
    job_id = write(database, values, suspicion=values, self_influence=values)
    write(database, values[:7_500], suspicion=values[:7_500], self_influence=values[:7_500])
    ran: list[tuple[str, Any]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        ran.append((statement, parameters))

    with database.snapshot() as session:
        middle = scores.one(session, job_id, 7_000)
        assert middle is not None
        session.connection().exec_driver_sql("ANALYZE scores")
        for after in (None, [getattr(middle, column.key) for column, _ in orders.KEYS[order]]):
            ran.clear()
            assert len(orders.page(session, job_id, order, 50, after=after)) == 50
            for statement, parameters in list(ran):
                explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
                plan = session.connection().exec_driver_sql(explain, parameters).scalar_one()[0]["Plan"]
                below = plan["Plans"][0]
                parts = below["Plans"] if below["Node Type"] == "Merge Append" else [below]
                assert plan["Node Type"] == "Limit"
                assert {part["Node Type"] for part in parts} == {"Index Scan"}, below
                assert len(parts) == 1 + alone
                assert not any(part.get("Rows Removed by Filter", 0) for part in parts)
    database.engine.dispose()


@pytest.mark.parametrize(
    ("order", "index"),
    [
        ("helpful", "ix_scores_job_id_score_sample_index"),
        ("suspicion", "ix_scores_suspicion"),
        ("self_influence", "ix_scores_self_influence"),
    ],
)
def test_sqlite_goes_on_by_the_index_of_the_order(sqlite_url: str, order: str, index: str) -> None:
    database, n = Database(sqlite_url), 5000
    values = np.random.default_rng(0).normal(size=n).round(3)
    job_id = write(database, values, suspicion=values, self_influence=values)
    plans: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        plans.extend(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    with database.snapshot() as session:
        assert len(orders.page(session, job_id, order, 50, after=[0.0, 7])) == 50
    assert [plan.split(" (")[0] for plan in plans if plan.startswith("SEARCH")] == [
        f"SEARCH scores USING INDEX {index}"
    ] * 2
    database.engine.dispose()


def test_a_partition_has_each_index_once(large_jobs: None, postgres_url: str) -> None:
    database = Database(postgres_url)
    job_id = write(database, np.arange(10.0))
    count = text(
        "SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indrelid = cast(:name AS regclass)"
    )
    with database.snapshot() as session:
        here, whole = (
            session.execute(count, {"name": name}).one() for name in (partitions.table(job_id), "scores")
        )
    assert tuple(here) == tuple(whole) == (5, True)
    database.engine.dispose()


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


@pytest.mark.parametrize("small", [0, 6, 50], ids=["all large", "one large", "all small"])
def test_dropping_a_job_leaves_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(partitions, "SMALL", small)
    kept, dropped = write(database, np.arange(5.0)), write(database, np.arange(7.0))
    for again in (False, True):  # who starts anew drops what is not there
        with database.transaction() as session:
            scores.drop(session, dropped)
        with database.snapshot() as session:
            assert session.execute(select(func.count()).select_from(Score)).scalar_one() == 5, again
    assert walk(database, kept, "index", 10) == list(range(5))


def test_a_large_jobs_table_is_out_of_sight_at_once_and_gone_when_swept(
    large_jobs: None, postgres_url: str
) -> None:
    database = Database(postgres_url)
    kept, dropped = write(database, np.arange(5.0)), write(database, np.arange(7.0))

    def tables() -> int:
        query = "SELECT count(*) FROM pg_tables WHERE tablename ~ '^scores_(job|gone)'"
        with database.snapshot() as session:
            return int(session.execute(text(query)).scalar_one())

    with database.transaction() as session:
        scores.drop(session, dropped)
    assert (walk(database, dropped, "index", 10), tables()) == ([], 2)
    for _ in range(2):
        partitions.sweep(database)
        assert (walk(database, kept, "index", 10), tables()) == (list(range(5)), 1)
    database.engine.dispose()


def test_a_large_jobs_rows_lie_in_the_order_of_their_ranks(large_jobs: None, postgres_url: str) -> None:
    database, values = Database(postgres_url), np.random.default_rng(0).normal(size=500)
    job_id = write(database, values, sample_id=np.array([f"s{at}" for at in range(500)]))
    with database.snapshot() as session:
        query = f"SELECT rank, sample_index, sample_id FROM {partitions.table(job_id)}"  # noqa: S608
        found = session.execute(text(query)).all()
    assert [row.rank for row in found] == list(range(1, 501))
    assert [row.sample_index for row in found] == np.argsort(-values).tolist()
    assert all(row.sample_id == f"s{row.sample_index}" for row in found)
    database.engine.dispose()


def test_a_partition_is_named_after_a_job_id_only() -> None:
    with pytest.raises(ValueError, match="not a job id"):
        partitions.table("job_1; drop table jobs")
