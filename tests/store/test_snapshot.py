"""Who reads sees one state of the database, whatever others commit meanwhile."""

from __future__ import annotations

from sqlalchemy import delete, func, select

from app.store.db import Database, new_id
from app.store.tables import ApiKey


def test_a_reader_sees_what_there_was_at_his_first_question(database: Database) -> None:
    with database.transaction() as session:
        session.add(ApiKey(id=new_id("key"), project_id="p", name="a", digest="d", scopes=[]))
    counted = select(func.count()).select_from(ApiKey)
    with database.snapshot() as reading:
        assert reading.scalar(counted) == 1
        with database.transaction() as session:
            session.execute(delete(ApiKey))
        assert reading.scalar(counted) == 1
    with database.snapshot() as reading:
        assert reading.scalar(counted) == 0
