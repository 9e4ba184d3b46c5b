"""Where PostgreSQL keeps scores: in a partition that small jobs share, and in one of its own for a large job.

A partition is loaded, indexed and dropped whole, however many rows it has, and its rows lie in the order of
their ranks, as they are asked for most. But the database lists all partitions anew whenever one comes or
goes: with one for every job, each job would cost more than the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from app.store.db import Database
from app.store.tables import Score

SMALL = 50_000  # rows at most that go where others are: a fraction of a second to delete
SHARED, LARGE = "scores_small", "scores_large"  # partitions of `scores`, by its column `large`
GONE = "scores_gone"  # begins the names of tables that are no partition any more
TYPES = {  # of a column in binary COPY, where it is not float8
    **dict.fromkeys(("job_id", "sample_id"), "text"),
    **dict.fromkeys(("sample_index", "rank"), "int8"),
    **dict.fromkeys(("contributions", "losses"), "bytea"),
    "large": "bool",
}
INDEXES = "SELECT pg_get_indexdef(indexrelid), indisprimary FROM pg_index WHERE indrelid = 'scores'::regclass"

Batches = Iterator[list[tuple[Any, ...]]]


def table(job_id: str) -> str:
    """The table of one large job's scores (an id holds hex digits, dashes and its prefix only)."""
    name = job_id.replace("-", "_")
    if not name.replace("_", "").isalnum():
        raise ValueError(f"not a job id: {job_id!r}")
    return f"scores_{name}"


def copy(session: Session, job_id: str, columns: Sequence[str], batches: Batches, *, large: bool) -> None:
    """Adds a job's rows to the ones that small jobs share. Those of a large one fill a table of its own,
    which is then indexed, then attached: other jobs' scores stay unlocked.
    """
    if not large:
        _copy(session, SHARED, columns, batches)
        return
    name = table(job_id)
    session.execute(text(f"CREATE TABLE {name} (LIKE scores INCLUDING DEFAULTS INCLUDING STORAGE)"))
    _copy(session, name, columns, batches)
    # What the whole table has is made here first: attaching finds it, and nobody waits for an index.
    session.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    session.execute(text(f"ALTER TABLE {name} ADD CHECK (large = true AND job_id = '{job_id}')"))
    for defined, primary in session.execute(text(INDEXES)).all():
        of = defined.partition(" USING btree ")[2]
        made = f"ALTER TABLE {name} ADD PRIMARY KEY" if primary else f"CREATE INDEX ON {name}"
        session.execute(text(f"{made} {of}"))
    session.execute(text(f"ALTER TABLE {LARGE} ATTACH PARTITION {name} FOR VALUES IN ('{job_id}')"))


def drop(session: Session, job_id: str) -> None:
    """Deletes a job's rows. The table of a large one goes out of sight; its files are `sweep`'s."""
    name = table(job_id)
    if session.scalar(select(func.to_regclass(name))) is not None:
        session.execute(text(f"ALTER TABLE {LARGE} DETACH PARTITION {name}"))
        session.execute(text(f"ALTER TABLE {name} RENAME TO {name.replace('scores', GONE, 1)}"))
    session.execute(delete(Score).where(Score.job_id == job_id, Score.large.is_(False)))


def sweep(database: Database) -> None:
    """Drops the tables of large jobs that were deleted: gigabytes that take the disk a while."""
    if database.engine.dialect.name != "postgresql":
        return
    with database.snapshot() as session:
        left = session.scalars(text(f"SELECT tablename FROM pg_tables WHERE tablename LIKE '{GONE}%'")).all()  # noqa: S608
    for name in left:
        with database.transaction() as session:
            session.execute(text(f"DROP TABLE IF EXISTS {name}"))


def _copy(session: Session, name: str, columns: Sequence[str], batches: Batches) -> None:
    connection = session.connection().connection.driver_connection
    assert connection is not None  # noqa: S101  (there is one inside a transaction)
    statement = f"COPY {name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([TYPES.get(column, "float8") for column in columns])
        for batch in batches:
            for row in batch:
                copy.write_row(row)
