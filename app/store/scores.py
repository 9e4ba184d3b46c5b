"""Scores of a job: written once, in one transaction; read by sample, or all of them (`orders`: in pages).

On PostgreSQL they are loaded by COPY into the table that `partitions` finds for the job; on SQLite they are
rows clustered by job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, func, select
from sqlalchemy.orm import Session

from app.store import partitions
from app.store.tables import Score

COLUMNS = tuple(column.name for column in Score.__table__.columns)
BATCH = 10_000
CACHE_KIB = 512 * 1024
INSERT = f"INSERT INTO scores ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
TOGETHER = 500  # ids of one question: a database takes so many parameters


def ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each sample, [N]: 1 is the most harmful (highest score), ties by index."""
    order = np.lexsort((np.arange(len(scores)), -scores))
    rank = np.empty(len(scores), dtype=np.int64)
    rank[order] = np.arange(1, len(scores) + 1)
    return rank


def write(session: Session, job_id: str, columns: Mapping[str, Any]) -> None:
    """Stores the scores of a whole job.

    Args:
        columns: by name, arrays of length N (`contributions`, `losses`: [N, m]); None for nulls.
    """
    if session.get_bind().dialect.name == "postgresql":
        large = len(columns["score"]) > partitions.SMALL
        order = np.argsort(columns["rank"]) if large else None
        rows = batches(job_id, columns, order=order, large=large)
        partitions.copy(session, job_id, COLUMNS, rows, large=large)
        return
    with roomy(session) as connection:
        for batch in batches(job_id, columns):
            connection.exec_driver_sql(INSERT, batch)


def drop(session: Session, job_id: str) -> None:
    """Deletes a job's scores."""
    if session.get_bind().dialect.name == "postgresql":
        partitions.drop(session, job_id)
    else:
        with roomy(session) as connection:
            connection.execute(delete(Score).where(Score.job_id == job_id))


@contextmanager
def roomy(session: Session) -> Iterator[Connection]:
    """SQLite with memory for its indexes, whose rows come at random: else it reads each page anew."""
    connection = session.connection()
    connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIB}")
    try:
        yield connection
    finally:
        connection.exec_driver_sql("PRAGMA cache_size = -2000")  # SQLite's own


def whole(session: Session, job_id: str, column: str) -> bool:
    """Whether no value of a column has a fraction."""
    value = getattr(Score, column)
    query = select(Score.sample_index).where(Score.job_id == job_id, value != func.floor(value)).limit(1)
    return session.execute(query).first() is None


def one(session: Session, job_id: str, sample_index: int) -> Score | None:
    return session.scalar(select(Score).where(Score.job_id == job_id, Score.sample_index == sample_index))


def some(session: Session, job_id: str, indices: Sequence[int]) -> dict[int, Score]:
    """The rows of these samples, by index."""
    query = select(Score).where(Score.job_id == job_id, Score.sample_index.in_(indices))
    return {row.sample_index: row for row in session.scalars(query)}


def by_ids(session: Session, job_id: str, sample_ids: Sequence[str]) -> dict[str, list[int]]:
    """The indices of the samples of these ids; several where an id is not one sample's alone."""
    found: dict[str, list[int]] = {}
    for start in range(0, len(sample_ids), TOGETHER):
        wanted = sample_ids[start : start + TOGETHER]
        query = select(Score.sample_id, Score.sample_index).where(
            Score.job_id == job_id, Score.sample_id.in_(wanted)
        )
        for name, index in session.execute(query.order_by(Score.sample_index)):
            found.setdefault(str(name), []).append(index)
    return found


def ids_of(session: Session, job_id: str, indices: Sequence[int]) -> dict[int, str | None]:
    """The ids of the samples of these indices."""
    query = select(Score.sample_index, Score.sample_id).where(
        Score.job_id == job_id, Score.sample_index.in_(indices)
    )
    return dict(session.execute(query).all())


def arrays(session: Session, job_id: str, *names: str) -> dict[str, NDArray[np.float64]]:
    """Numbers of all of a job's samples, by index: {name: [N]}; NaN for nulls. Of a blob (losses,
    contributions): [N, m].
    """
    query = select(*(getattr(Score, name) for name in names)).where(Score.job_id == job_id)
    query = query.order_by(Score.sample_index).execution_options(yield_per=BATCH)
    parts: list[dict[str, NDArray[np.float64]]] = []
    for rows in session.execute(query).partitions():
        parts.append({name: _numbers(name, [row[at] for row in rows]) for at, name in enumerate(names)})
    if not parts:
        return {name: np.empty(0) for name in names}
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _numbers(name: str, values: Sequence[Any]) -> NDArray[np.float64]:
    if name in ("contributions", "losses"):
        return np.stack([np.frombuffer(value, dtype="<f8") for value in values])
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def count_at_least(session: Session, job_id: str, column: str, least: float) -> int:
    """How many samples have `least` or more in the column "score" or "suspicion"."""
    query = select(func.count()).where(Score.job_id == job_id, getattr(Score, column) >= least)
    return int(session.execute(query).scalar_one())


def contributions(row: Score) -> list[float]:
    """The row's share of each checkpoint, adding up to its score."""
    return [float(value) for value in np.frombuffer(row.contributions, dtype="<f8")]


def losses(row: Score) -> list[float]:
    """The sample's loss at each checkpoint."""
    return [float(value) for value in np.frombuffer(row.losses, dtype="<f8")]


def batches(
    job_id: str,
    columns: Mapping[str, Any],
    size: int = BATCH,
    *,
    order: NDArray[np.int64] | None = None,
    large: bool = False,
) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of `write`, `size` at a time, by index or in `order`; values in the order of `COLUMNS`."""
    n = len(columns["score"])
    there = {**columns, "job_id": job_id, "large": large}
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n)) if order is None else order[start : start + size]
        count = min(size, n - start)
        parts = [_values(name, there.get(name), rows, count) for name in COLUMNS]
        yield list(zip(*parts, strict=True))


def _values(name: str, column: Any, rows: slice | NDArray[np.int64], count: int) -> list[Any]:
    if column is None or isinstance(column, str | bool):
        return [column] * count
    if name in ("contributions", "losses"):
        return [row.tobytes() for row in np.ascontiguousarray(column[rows], dtype="<f8")]
    values: list[Any] = np.asarray(column[rows]).tolist()
    return values
