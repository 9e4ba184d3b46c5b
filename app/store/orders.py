"""Scores in the orders that people ask for: page by page past a row that is known, however deep.

Each order has an index of its own, and a page is one range of it, or two: what is left of a tie, then what
comes after. One condition for both ("less, or the same and …") has a database read from the top every time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, literal_column, select
from sqlalchemy.orm import Session

from app.store.tables import Score

TOLD = tuple(
    column for column in Score.__table__.columns if column.name not in ("job_id", "contributions", "losses")
)
KEYS: dict[str, list[tuple[Any, bool]]] = {  # order → its columns, and whether each falls; ties go by index
    "harmful": [(Score.rank, False)],
    "helpful": [(Score.score, False), (Score.sample_index, False)],
    "self_influence": [(Score.self_influence, True), (Score.sample_index, False)],
    "suspicion": [(Score.suspicion, True), (Score.sample_index, False)],
    "index": [(Score.sample_index, False)],
}


def page(
    session: Session,
    job_id: str,
    order: str,
    limit: int,
    *,
    after: Sequence[Any] | None = None,
    label: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> list[Row[Any]]:
    """Up to `limit` rows in `order`, past the row whose `position` is `after`, without the parts that each
    checkpoint contributed.

    Args:
        order: harmful (score descending), helpful (ascending), self_influence or suspicion (descending), or
            index; ties by index.
        label, least, most: only rows of this given label, and with least ≤ score ≤ most.
    """
    query = _ordered(job_id, order)
    if label is not None:
        query = query.where(Score.label == label)
    bounds = _bounds(session, job_id, order, least, most)
    if bounds is None:
        return []
    found: list[Row[Any]] = []
    for following in _past(session, KEYS[order], after):
        if len(found) < limit:
            some = query.where(*bounds, *following).limit(limit - len(found))
            found += session.execute(some).all()
    return found


def every(session: Session, job_id: str, order: str, batch: int) -> Iterator[Sequence[Row[Any]]]:
    """All rows of a job in `order`, `batch` at a time.

    The database hands them over as they are asked for: what is held in memory is one batch.
    """
    found = session.execute(_ordered(job_id, order), execution_options={"yield_per": batch})
    yield from found.partitions()


def position(row: Row[Any], order: str) -> list[Any]:
    """What tells where a row stands in an order, to go on from there."""
    return [getattr(row, column.key) for column, _ in KEYS[order]]


def _ordered(job_id: str, order: str) -> Select[Any]:
    columns = KEYS[order]
    # an index of what not every job has leaves nulls out, and is taken where the query says so too
    there = [column.is_not(None) for column, falling in columns if falling]
    query = select(*TOLD).where(Score.job_id == job_id, *there)
    return query.order_by(*(column.desc() if falling else column for column, falling in columns))


def _past(
    session: Session, columns: list[tuple[Any, bool]], after: Sequence[Any] | None
) -> Iterator[list[ColumnElement[bool]]]:
    """The ranges that follow on `after`, one after the other."""
    if not after:
        yield []
        return
    (first, falling), *ties = columns
    if ties and session.get_bind().dialect.name == "sqlite":
        # An equality, or the index as it is, and it takes the primary key: all rows that follow there.
        yield [first.between(after[0], after[0]), literal_column("+scores.sample_index") > after[1]]
    elif ties:
        yield [first == after[0], Score.sample_index > after[1]]
    yield [first < after[0] if falling else first > after[0]]


def _bounds(
    session: Session, job_id: str, order: str, least: float | None, most: float | None
) -> list[ColumnElement[bool]] | None:
    """Conditions for least ≤ score ≤ most; None where no row meets them. Ranks follow from scores: in their
    order a range of ranks is asked for, which its index finds.
    """
    if order != "harmful":
        found = [] if least is None else [Score.score >= least]
        return found if most is None else [*found, Score.score <= most]
    bounds = []
    if most is not None:
        if (first := _rank(session, job_id, Score.score <= most, falling=True)) is None:
            return None
        bounds.append(Score.rank >= first)
    if least is not None:
        if (last := _rank(session, job_id, Score.score >= least, falling=False)) is None:
            return None
        bounds.append(Score.rank <= last)
    return bounds


def _rank(session: Session, job_id: str, where: ColumnElement[bool], *, falling: bool) -> int | None:
    """The rank of the row with the highest score there, or the lowest; in a tie the first, or the last."""
    mine = Score.job_id == job_id
    by_score = Score.score.desc() if falling else Score.score
    score = session.scalar(select(Score.score).where(mine, where).order_by(by_score).limit(1))
    if score is None:
        return None
    by_index = Score.sample_index if falling else Score.sample_index.desc()
    return session.scalar(select(Score.rank).where(mine, Score.score == score).order_by(by_index).limit(1))
