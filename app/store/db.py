"""The database: engine, transactions, clock and the column types both dialects share."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    DateTime,
    Dialect,
    Double,
    Engine,
    TypeDecorator,
    create_engine,
    event,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

SQLITE_AWAY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR)

CONNECTIONS, LEAST_CONNECTIONS = 40, 5  # to the database: of a process, and of one of many
MOST_IDLE_SECONDS = 120  # of a transaction that says nothing to the server

Json = JSON().with_variant(JSONB(), "postgresql")


class Message(NamedTuple):
    """One ring of the doorbell: which unit of work, in which attempt, for which task on which queue."""

    task: str
    work_id: str
    attempt: int
    queue: str


Ring = Callable[[list[Message]], None]


class Utc(TypeDecorator[datetime]):
    """An aware UTC datetime on every dialect (SQLite alone would forget the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class epoch(FunctionElement[float]):  # noqa: N801  (it stands in SQL like func.now)
    """Seconds since 1970 by the database's clock, moving within a transaction: leases go by it."""

    type = Double()
    inherit_cache = True


@compiles(epoch, "sqlite")
def _epoch_sqlite(element: epoch, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(epoch, "postgresql")
def _epoch_postgresql(element: epoch, compiler: Any, **kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


class same_json(FunctionElement[bool]):  # noqa: N801
    """Whether two JSON values are the same; on SQLite, which compares their text, with keys in one order."""

    type = Boolean()
    inherit_cache = True


@compiles(same_json, "sqlite")
def _same_json_sqlite(element: same_json, compiler: Any, **kw: Any) -> str:
    return "({} = {})".format(*(f"json({compiler.process(one, **kw)})" for one in element.clauses))


@compiles(same_json, "postgresql")
def _same_json_postgresql(element: same_json, compiler: Any, **kw: Any) -> str:
    return "({} = {})".format(*(compiler.process(one, **kw) for one in element.clauses))


def new_id(prefix: str) -> str:
    """A resource id: its kind and a UUIDv7, so that ids sort by time of creation."""
    return f"{prefix}_{uuid_utils.uuid7()}"


def utcnow() -> datetime:
    return datetime.now(UTC)


class Database:
    """Transactions on one engine; messages queued in a transaction are rung after its commit.

    Args:
        processes: how many share the connections that one would have alone.
    """

    def __init__(self, url: str, ring: Ring | None = None, processes: int = 1) -> None:
        self.engine = connect(url, max(CONNECTIONS // processes, LEAST_CONNECTIONS))
        snapshot, alone = {}, {}
        if self.engine.dialect.name == "postgresql":  # SQLite's readers see one state anyway
            snapshot, alone = {"isolation_level": "REPEATABLE READ"}, {"isolation_level": "AUTOCOMMIT"}
        self._reading = self.engine.execution_options(read_only=True, **snapshot)
        self._asking = self.engine.execution_options(read_only=True, **alone)
        self._telling = self.engine.execution_options(**alone)
        self.ring = ring

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end of the block, or rolls back when the block raises."""
        with Session(self.engine, expire_on_commit=False) as session:
            try:
                with session.begin():
                    yield session
                    for act in session.info.pop("at_end", []):
                        act()
                    session.info["committing"] = True
            except BaseException:
                # whether a commit that broke off was done, SQLite knows, a server out of reach may not
                if "committing" not in session.info or self.engine.dialect.name == "sqlite":
                    for undo in session.info.pop("after_rollback", []):
                        undo()
                raise
            messages: list[Message] = session.info.pop("messages", [])
            afterwards: list[Callable[[], None]] = session.info.pop("after_commit", [])
        for act in afterwards:
            act()
        if messages and self.ring:
            self.ring(messages)

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A session for reading, which sees what there was at its first question, whatever others commit
        meanwhile. It takes no write lock on SQLite, and commits nothing.
        """
        with Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def asking(self) -> Iterator[Connection]:
        """A connection for one statement that reads: PostgreSQL is asked nothing else, not even to begin and
        end a transaction.
        """
        with self._asking.connect() as connection:
            yield connection

    @contextmanager
    def telling(self) -> Iterator[Connection]:
        """The same for one statement that writes: it is committed as it is done."""
        with self._telling.begin() as connection:
            yield connection

    def check(self) -> None:
        """Raises unless the database answers."""
        with self.asking() as connection:
            connection.execute(select(1))


def ring_after_commit(session: Session, *messages: Message) -> None:
    session.info.setdefault("messages", []).extend(messages)


def at_end(session: Session, act: Callable[[], None]) -> None:
    """`act` once all else of this transaction is done, before its commit: for what others may wait for."""
    session.info.setdefault("at_end", []).append(act)


def after_commit(session: Session, act: Callable[[], None]) -> None:
    """`act` once this transaction is safe: for what a database cannot roll back, such as deleting a file."""
    session.info.setdefault("after_commit", []).append(act)


def after_rollback(session: Session, act: Callable[[], None]) -> None:
    """`act` once this transaction is certain to have changed nothing."""
    session.info.setdefault("after_rollback", []).append(act)


def connect(url: str, connections: int = CONNECTIONS) -> Engine:
    """An engine on SQLite (WAL, foreign keys on, writers queue up) or PostgreSQL (psycopg 3)."""
    if not url.startswith("sqlite"):
        kept = connections // 2
        engine = create_engine(
            url, pool_size=kept, max_overflow=connections - kept, pool_pre_ping=True, pool_recycle=1800
        )
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    engine = create_engine(url, connect_args={"timeout": 60, "check_same_thread": False}, pool_size=40)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    # A process that hangs in the middle of a transaction would keep its locks for ever.
    connection.autocommit = True
    connection.execute(f"SET idle_in_transaction_session_timeout = '{MOST_IDLE_SECONDS}s'")
    connection.autocommit = False


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, below
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=60000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    # A reader that turns writer in mid-transaction fails at once when another writer came first;
    # taking the write lock at the start makes writers wait for their turn instead.
    read_only = connection.get_execution_options().get("read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def away(problem: SQLAlchemyError) -> bool:
    """Whether the database was out of reach, or too busy: what failed may succeed in a moment."""
    if isinstance(problem, NoConnectionError | InterfaceError):  # the pool's are all taken; or it broke
        return True
    if not isinstance(problem, DBAPIError):
        return False
    if isinstance(problem.orig, sqlite3.Error):  # its OperationalError may as well be a missing table
        return problem.orig.sqlite_errorcode & 0xFF in SQLITE_AWAY
    return problem.connection_invalidated or isinstance(problem, OperationalError)


def inserting(session: Session) -> Callable[[Any], sqlite.Insert | postgresql.Insert]:
    """INSERT of the session's dialect: both know ON CONFLICT, each in a construct of its own."""
    return sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert


def database_epoch(session: Session) -> float:
    return session.execute(select(epoch())).scalar_one()
