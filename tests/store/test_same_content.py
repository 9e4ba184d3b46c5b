"""Two that computed or sent the same content let go of it at once: neither waits for what the other holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from app.store import datasets, jobs, training, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Blob, Dataset, Job


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """PostgreSQL, where those that are about to delete a blob wait for each other: for 2 s at most, since one
    may have to wait for the other's end before it comes there.
    """
    database, meeting = Database(postgres_url), threading.Barrier(2)

    def meet(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM blobs"):
            with suppress(threading.BrokenBarrierError):
                meeting.wait(2)

    event.listen(database.engine, "before_cursor_execute", meet)
    yield database
    database.engine.dispose()


def at_once(database: Database, act: Callable[[Session, str], None], ids: list[str]) -> None:
    def do(one: str) -> None:
        with database.transaction() as session:
            act(session, one)

    with ThreadPoolExecutor() as pool:
        list(pool.map(do, ids))


def kept(database: Database) -> int:
    with database.snapshot() as session:
        return len(session.scalars(select(Blob)).all())


def test_jobs_that_end_at_once(database: Database, blobs: BlobStore) -> None:
    ids = []
    for _ in range(2):
        with database.transaction() as session, blobs.stage() as staged:
            asked: dict[str, Any] = {"method": {"name": "loss"}, "seed": 0, "checkpoint_ids": []}
            ids.append(jobs.create(session, project_id="p", type="influence", **asked).id)
            session.flush()
            staged.write_bytes(b"what both computed")
            [row] = work.of(session, ids[-1], "plan")
            row.result_blob = blobs.keep(session, staged)

    def end(session: Session, job_id: str) -> None:
        jobs.fail(session, blobs, session.get_one(Job, job_id, with_for_update=True), {"code": "c"})

    at_once(database, end, ids)
    assert kept(database) == 0


def test_data_sets_that_are_refused_at_once(database: Database, blobs: BlobStore) -> None:
    ids = []
    for _ in range(2):
        with database.transaction() as session, blobs.stage() as staged:
            staged.write_bytes(b"what both sent")
            sent: dict[str, Any] = {"bytes": 14, "filename": "d.npz", "format": "npz", "name": ""}
            blob = blobs.keep(session, staged)
            ids.append(datasets.create(session, blob, project_id="p", **sent).id)

    def refuse(session: Session, dataset_id: str) -> None:
        datasets.invalid(session, blobs, session.get_one(Dataset, dataset_id), {"code": "c"})

    at_once(database, refuse, ids)
    assert kept(database) == 0


def test_training_that_passes_a_state_by_at_once(database: Database, blobs: BlobStore) -> None:
    ids = []
    for _ in range(2):
        with database.transaction() as session, blobs.stage() as staged:
            asked: dict[str, Any] = {"seed": 0, "checkpoint_ids": []}
            ids.append(jobs.create(session, project_id="p", type="train", **asked).id)
            session.flush()
            staged.write_bytes(b"what both trained")
            state = training.Written(0, False, staged, None, (), {})
            training.keep(session, blobs, ids[-1], state)

    def go_on(session: Session, job_id: str) -> None:
        training.pass_by(session, blobs, job_id, 0)

    at_once(database, go_on, ids)
    assert kept(database) == 0
