"""The worker's health check, against rows as workers write them."""

from __future__ import annotations

from sqlalchemy import update

from app.store import workers
from app.store.db import Database, epoch
from app.store.tables import Worker
from worker.health import SILENT_SECONDS, healthy


def beat(database: Database, worker_id: str) -> None:
    with database.transaction() as session:
        workers.beat(session, worker_id, ["cpu"], "cpu", "0.1.0")


def test_a_host_whose_worker_beats_is_healthy(database: Database) -> None:
    beat(database, "here:7")
    assert healthy(database, "here")


def test_a_worker_elsewhere_does_not_make_a_host_healthy(database: Database) -> None:
    beat(database, "there:7")
    beat(database, "here-too:7")
    assert not healthy(database, "here")


def test_a_worker_that_fell_silent_does_not_make_a_host_healthy(database: Database) -> None:
    beat(database, "here:7")
    with database.transaction() as session:
        session.execute(update(Worker).values(seen_at=epoch() - SILENT_SECONDS - 1))
    assert not healthy(database, "here")
