"""Scores in the orders that people ask for: page by page past a row that is known, however deep.

Each order has an index of its own, and a page is one range of it, or two: what is left of a tie, then what
comes after. One condition for both ("less, or the same and …") has a database read from the top every time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Row, Select, bindparam, literal_column, select
from sqlalchemy.orm import Session

from app.store.tables import Score

COLUMNS = Score.__table__.c
TOLD = tuple(column for column in COLUMNS if column.name not in ("job_id", "contributions", "losses"))
KEYS: dict[str, list[tuple[Any, bool]]] = {  # order → its columns, and whether each falls; ties go by index
    "harmful": [(COLUMNS.rank, False)],
    "helpful": [(COLUMNS.score, False), (COLUMNS.sample_index, False)],
    "self_influence": [(COLUMNS.self_influence, True), (COLUMNS.sample_index, False)],
    "suspicion": [(COLUMNS.suspicion, True), (COLUMNS.sample_index, False)],
    "index": [(COLUMNS.sample_index, False)],
}
FILTERS = {  # by the value that each is given
    "label": COLUMNS.label == bindparam("label"),
    "least": COLUMNS.score >= bindparam("least"),
    "most": COLUMNS.score <= bindparam("most"),
    "first": COLUMNS.rank >= bindparam("first"),
    "last": COLUMNS.rank <= bindparam("last"),
}
Part = Literal["top", "tie", "past"]


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
    bounds = _bounds(session, job_id, order, least, most)
    if bounds is None:
        return []
    filters = bounds if label is None else bounds | {"label": label}
    values = filters | {"job_id": job_id} | {f"after_{at}": value for at, value in enumerate(after or ())}
    dialect = session.get_bind().dialect.name
    found: list[Row[Any]] = []
    for part in _parts(order, after):
        if len(found) < limit:
            some = _page(order, part, tuple(filters), dialect)
            found += session.execute(some, values | {"limit": limit - len(found)}).all()
    return found


def every(session: Session, job_id: str, order: str, batch: int) -> Iterator[Sequence[Row[Any]]]:
    """All rows of a job in `order`, `batch` at a time.

    The database hands them over as they are asked for: what is held in memory is one batch.
    """
    found = session.execute(_ordered(order), {"job_id": job_id}, execution_options={"yield_per": batch})
    yield from found.partitions()


def position(row: Row[Any], order: str) -> list[Any]:
    """What tells where a row stands in an order, to go on from there."""
    return [getattr(row, column.key) for column, _ in KEYS[order]]


@cache
def _ordered(order: str) -> Select[Any]:
    columns = KEYS[order]
    # an index of what not every job has leaves nulls out, and is taken where the query says so too
    there = [column.is_not(None) for column, falling in columns if falling]
    query = select(*TOLD).where(COLUMNS.job_id == bindparam("job_id"), *there)
    return query.order_by(*(column.desc() if falling else column for column, falling in columns))


def _parts(order: str, after: Sequence[Any] | None) -> tuple[Part, ...]:
    """The ranges that follow on `after`, one after the other."""
    if not after:
        return ("top",)
    return ("tie", "past") if len(KEYS[order]) > 1 else ("past",)


@cache  # putting a statement together costs more than it costs the database
def _page(order: str, part: Part, filters: tuple[str, ...], dialect: str) -> Select[Any]:
    """The statement for a part of a page; it takes `limit`, `after_0` and `after_1` beside the filters."""
    where = [FILTERS[name] for name in filters]
    first, falling = KEYS[order][0]
    after, index = bindparam("after_0", type_=first.type), bindparam("after_1", type_=BigInteger())
    if part == "past":
        where.append(first < after if falling else first > after)
    elif part == "tie" and dialect == "sqlite":
        # An equality, or the index as it is, and it takes the primary key: all rows that follow there.
        where += [first.between(after, after), literal_column("+scores.sample_index") > index]
    elif part == "tie":
        where += [first == after, COLUMNS.sample_index > index]
    return _ordered(order).where(*where).limit(bindparam("limit", type_=BigInteger()))


def _bounds(
    session: Session, job_id: str, order: str, least: float | None, most: float | None
) -> dict[str, float] | None:
    """The filters for least ≤ score ≤ most; None where no row meets them. Ranks follow from scores: in their
    order a range of ranks is asked for, which its index finds.
    """
    if order != "harmful":
        given = {"least": least, "most": most}
        return {name: value for name, value in given.items() if value is not None}
    bounds: dict[str, float] = {}
    if most is not None:
        if (first := _rank(session, job_id, Score.score <= most, falling=True)) is None:
            return None
        bounds["first"] = first
    if least is not None:
        if (last := _rank(session, job_id, Score.score >= least, falling=False)) is None:
            return None
        bounds["last"] = last
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
