"""Two that computed or sent the same content let go of it at once: neither waits for what the other holds."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from app.store import datasets, jobs, training, work
from app.store.blobs import BlobStore, digest
from app.store.db import Database
from app.store.tables import Blob, Dataset, Job


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """PostgreSQL, where those that are about to lock what they let go of wait for each other, once."""
    database, meeting, met = Database(postgres_url), threading.Barrier(2), threading.Event()

    def meet(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM blobs" in statement and statement.endswith("FOR UPDATE NOWAIT") and not met.is_set():
            meeting.wait(10)
            met.set()

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


def test_one_is_kept_and_another_let_go_of_while_somebody_lets_go_of_both(
    postgres_url: str, blobs: BlobStore, tmp_path: Path
) -> None:
    """The keeper has the second of two locks and comes for the first one."""
    database, kept, tried = Database(postgres_url), threading.Event(), threading.Event()
    files = [tmp_path / name for name in ("one", "other")]
    for file in files:
        file.write_text(file.name)
    with database.transaction() as session:
        copies = [Path(shutil.copy(file, blobs.staging)) for file in files]
        first, second = sorted(blobs.keep(session, copy) for copy in copies)
    of = {digest(file): file for file in files}

    def trying(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if kept.is_set() and "FOR UPDATE" in statement:
            tried.set()

    def keep() -> None:
        with database.transaction() as session:
            blobs.keep(session, of[second], second)
            kept.set()
            assert tried.wait(10)
            time.sleep(0.2)  # it has what it gets of the locks
            blobs.forget(session, first)

    def let_go() -> None:
        assert kept.wait(10)
        with database.transaction() as session:
            blobs.forget(session, first, second)

    event.listen(database.engine, "before_cursor_execute", trying)
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(keep), pool.submit(let_go)]:
            done.result()
    with database.snapshot() as session:
        assert session.scalars(select(Blob)).all() == []
    database.engine.dispose()


def test_what_is_kept_again_in_the_same_transaction_stays(postgres_url: str, blobs: BlobStore) -> None:
    database = Database(postgres_url)
    with database.transaction() as session, blobs.stage() as staged:
        staged.write_text("a file")
        sent: dict[str, Any] = {"bytes": 6, "filename": "d.npz", "format": "npz", "name": ""}
        blob = blobs.keep(session, staged)
        first = datasets.create(session, blob, project_id="p", **sent)
        session.flush()
        datasets.delete(session, blobs, first)
        datasets.create(session, blob, project_id="p", **sent)
    with database.snapshot() as session:
        assert blobs.path(session, blob).read_text() == "a file"
    database.engine.dispose()
