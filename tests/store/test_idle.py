"""A process that hangs in the middle of a transaction keeps no lock for ever."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.store.db import MOST_IDLE_SECONDS, Database
from tests.chaos.rows import wait_until


def test_the_server_ends_a_transaction_that_says_nothing(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.transaction() as session:
        asked = session.scalar(text("SELECT setting FROM pg_settings WHERE name LIKE 'idle_in_transaction%'"))
        assert asked == str(1000 * MOST_IDLE_SECONDS)
        session.execute(text("CREATE TABLE bulk (n int)"))
        session.execute(text("INSERT INTO bulk VALUES (1)"))
    with pytest.raises(DBAPIError, match="idle-in-transaction"), database.transaction() as hung:
        hung.execute(text("SET LOCAL idle_in_transaction_session_timeout = '200ms'"))
        hung.execute(text("UPDATE bulk SET n = 2"))

        def free() -> bool:
            with database.transaction() as other:
                return bool(other.execute(text("SELECT n FROM bulk FOR UPDATE SKIP LOCKED")).all())

        wait_until(free, "free", seconds=20)
        hung.execute(text("SELECT 1"))
    database.engine.dispose()
