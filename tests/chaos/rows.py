"""The rows behind a running service, read beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.settings import Settings
from app.store import workers
from app.store.db import Database
from app.store.tables import Blob, Event, Job, Score, Work
from tests.services import Service


@contextmanager
def reading(service: Service) -> Iterator[Session]:
    """A session on the service's database."""
    url = service.environment.get("DIFFIN_DATABASE_URL", f"sqlite:///{service.data_dir / 'diffin.db'}")
    database = Database(Settings(database_url=url).database_url)
    try:
        with database.snapshot() as session:
            yield session
    finally:
        database.engine.dispose()


def units(service: Service, subject: str) -> list[Work]:
    """The units of work of a job or a file, in the order they were planned."""
    with reading(service) as session:
        return list(session.scalars(select(Work).where(Work.subject == subject).order_by(Work.id)))


def failures(service: Service, subject: str) -> int:
    """How many attempts at the subject's work have failed."""
    return sum(unit.failures for unit in units(service, subject))


def held_by(unit: Work, pid: int) -> bool:
    """Whether the worker of this process holds the unit."""
    return (unit.lease_owner or "").endswith(f":{pid}")


def everything(service: Service, job_id: str) -> list[tuple[Any, ...]]:
    """All that is kept of a job: its row, its units, its events, its scores, and every blob there is."""
    found: list[tuple[Any, ...]] = []
    with reading(service) as session:
        for table, key in (
            (Job, Job.id),
            (Work, Work.subject),
            (Event, Event.subject),
            (Score, Score.job_id),
        ):
            columns = table.__table__.columns
            query = select(*columns).where(key == job_id).order_by(*table.__table__.primary_key)
            found += [(table.__tablename__, *map(repr, row)) for row in session.execute(query)]
        blobs = session.execute(select(Blob.sha256, Blob.location).order_by(Blob.sha256))
        return found + [tuple(row) for row in blobs]


def alive(service: Service) -> list[str]:
    """The workers that were heard of in the last seconds."""
    with reading(service) as session:
        return [worker.id for worker in workers.alive(session, within=5)]


def wait_until(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Returns once `true` holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"still not {what} after {seconds} s"
        time.sleep(0.05)
