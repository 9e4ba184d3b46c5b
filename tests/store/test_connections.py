"""What a reader says to the database, and connections that broke while nobody used them."""

from __future__ import annotations

from psycopg.pq import TransactionStatus
from sqlalchemy import select, text

from app.store.db import Database

OTHERS = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()")


def broken(url: str) -> Database:
    """With a connection in its pool that worked a moment ago, and does no more."""
    database, other = Database(url), Database(url)
    database.check()
    with other.transaction() as session:
        session.execute(text(f"{OTHERS} AND pid <> pg_backend_pid()"))
    other.engine.dispose()
    return database


def test_a_connection_is_tried_before_it_is_used(postgres_url: str) -> None:
    """One that worked a moment ago as well: a server restarts within a second."""
    database = broken(postgres_url)
    database.check()
    database.engine.dispose()


def test_one_statement_needs_no_transaction(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.asking() as connection:
        assert connection.execute(select(1)).scalar_one() == 1
        driver = connection.connection.driver_connection
        assert driver is not None and driver.info.transaction_status == TransactionStatus.IDLE
    with database.transaction() as session:  # the same connection of the pool
        session.execute(select(1))
        driver = session.connection().connection.driver_connection
        assert driver is not None and driver.info.transaction_status == TransactionStatus.INTRANS
    database.engine.dispose()
