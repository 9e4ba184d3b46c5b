"""Leased units of work: claimed once, fenced, put back when their owner falls silent."""

from __future__ import annotations

import time

import pytest
from sqlalchemy.orm import Session

from app.store import work
from app.store.blobs import BlobStore
from app.store.db import Database, Message
from app.store.tables import Work
from app.store.work import Lease, LeaseLostError


@pytest.fixture
def rung(database: Database) -> list[Message]:
    """Every message rung after a commit."""
    messages: list[Message] = []
    database.ring = messages.extend
    return messages


def add(database: Database, kind: str = "validate", subject: str = "ds_1", **options: object) -> str:
    with database.transaction() as session:
        return work.add(session, kind, subject, "p", **options).id  # type: ignore[arg-type]


def claim(database: Database, work_id: str, attempt: int = 1, owner: str = "a", lease: float = 60) -> bool:
    with database.transaction() as session:
        return work.claim(session, work_id, attempt, owner, lease) is not None


def state(session: Session, work_id: str) -> tuple[str, int]:
    row = session.get_one(Work, work_id)
    return row.status, row.attempt


def test_the_doorbell_rings_after_the_commit_only(database: Database, rung: list[Message]) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as session:
        work.add(session, "validate", "ds_1", "p")
        raise ZeroDivisionError
    assert rung == []
    work_id = add(database)
    assert rung == [Message("diffin.validate", work_id, 1, "cpu")]


def test_a_unit_is_claimed_once(database: Database) -> None:
    work_id = add(database)
    assert claim(database, work_id, owner="a")
    assert not claim(database, work_id, owner="b")
    assert not claim(database, work_id, attempt=2)


def test_only_the_owner_of_this_attempt_can_finish(database: Database) -> None:
    work_id = add(database)
    claim(database, work_id, owner="a")
    for stranger in (Lease(work_id, 1, "b"), Lease(work_id, 2, "a"), Lease("other", 1, "a")):
        with pytest.raises(LeaseLostError), database.transaction() as session:
            work.finish(session, stranger)
    with database.transaction() as session:
        work.finish(session, Lease(work_id, 1, "a"))
    with pytest.raises(LeaseLostError), database.transaction() as session:
        work.finish(session, Lease(work_id, 1, "a"))


def test_a_silent_owner_loses_its_lease_and_its_late_writes(
    database: Database, blobs: BlobStore, rung: list[Message]
) -> None:
    from app.store import sweeper

    work_id = add(database)
    claim(database, work_id, owner="a", lease=0.05)
    time.sleep(0.15)
    assert sweeper.sweep(database, blobs, max_attempts=3, lease_seconds=60) == 1
    with database.snapshot() as session:
        assert state(session, work_id) == ("queued", 2)
    assert rung[-1].attempt == 2
    assert claim(database, work_id, attempt=2, owner="b")
    with pytest.raises(LeaseLostError), database.transaction() as session:
        work.finish(session, Lease(work_id, 1, "a"))


def test_a_renewed_lease_is_left_alone(database: Database, blobs: BlobStore) -> None:
    from app.store import sweeper

    work_id = add(database)
    claim(database, work_id, lease=0.05)
    with database.transaction() as session:
        work.renew(session, Lease(work_id, 1, "a"), 60, completed=3)
    time.sleep(0.1)
    assert sweeper.sweep(database, blobs, max_attempts=3, lease_seconds=60) == 0
    with database.snapshot() as session:
        assert state(session, work_id) == ("running", 1)


def test_giving_back_counts_no_failure(database: Database) -> None:
    work_id = add(database)
    for attempt in range(1, 8):
        assert claim(database, work_id, attempt=attempt)
        with database.transaction() as session:
            work.give_back(session, Lease(work_id, attempt, "a"))
    with database.snapshot() as session:
        assert session.get_one(Work, work_id).failures == 0


def test_what_waits_is_released_when_all_of_the_stage_is_done(
    database: Database, rung: list[Message]
) -> None:
    first = add(database, "block", "job_x")
    second = add(database, "block", "job_x")
    last = add(database, "reduce", "job_x", waits_for="block")
    assert not claim(database, last)
    for work_id in (first, second):
        with database.snapshot() as session:
            assert state(session, last)[0] == "waiting"
        claim(database, work_id)
        with database.transaction() as session:
            work.finish(session, Lease(work_id, 1, "a"))
            work.release(session, "job_x", "block")
    with database.snapshot() as session:
        assert state(session, last)[0] == "queued"
    assert rung[-1].work_id == last


def test_a_lost_message_is_rung_again(database: Database, rung: list[Message]) -> None:
    work_id = add(database)
    rung.clear()
    with database.transaction() as session:
        assert work.ring_again(session, ["cpu"], older_than=60) == 0
        assert work.ring_again(session, ["gpu"], older_than=-1) == 0
    time.sleep(0.05)
    with database.transaction() as session:
        assert work.ring_again(session, ["cpu"], older_than=0.01) == 1
    assert [message.work_id for message in rung] == [work_id]
