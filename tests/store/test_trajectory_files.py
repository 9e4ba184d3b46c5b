"""Files that tell what a trajectory's network is: checkpoints wait for them, and go with them."""

from __future__ import annotations

from typing import Any

import pytest

from app.store import sweeper, trajectories, work
from app.store.blobs import BlobStore
from app.store.db import Database, Message
from app.store.tables import Blob, Checkpoint, Trajectory, TrajectoryFile, Work

PROJECT = "p"
REFUSED = {"code": "unknown_operator", "detail": "The graph has an unknown operator.", "fault": "user"}


@pytest.fixture
def rung(database: Database) -> list[Message]:
    messages: list[Message] = []
    database.ring = messages.extend
    return messages


def keep(blobs: BlobStore, session: object, content: bytes) -> str:
    with blobs.stage() as staged:
        staged.write_bytes(content)
        return blobs.keep(session, staged)  # type: ignore[arg-type]


def run(database: Database, blobs: BlobStore, *roles: str) -> tuple[str, list[str]]:
    """A trajectory with files in these roles: its id and theirs."""
    with database.transaction() as session:
        made = trajectories.create(
            session, project_id=PROJECT, architecture={}, task={}, preprocessing={}, optimizer={}
        )
        session.flush()
        found = [
            trajectories.add_file(
                session, made, role, keep(blobs, session, role.encode()), filename=role, bytes=4
            ).id
            for role in roles
        ]
        return made.id, found


def send(database: Database, blobs: BlobStore, trajectory_id: str, step: int = 1) -> str:
    with database.transaction() as session:
        trajectory = trajectories.locked(session, PROJECT, trajectory_id)
        assert trajectory is not None
        blob = keep(blobs, session, b"tensors %d" % step)
        values: dict[str, Any] = {"step": step, "learning_rate": 0.1, "filename": "c", "bytes": 1}
        return trajectories.add_checkpoint(session, trajectory, blob, **values).id


def accept(database: Database, blobs: BlobStore, file_id: str) -> None:
    with database.transaction() as session, blobs.stage() as staged:
        staged.write_bytes(f"canonical {file_id}".encode())
        trajectories.lock_owner(session, file_id)
        file = session.get_one(TrajectoryFile, file_id)
        trajectories.ready(session, blobs, file, {"operators": ["Gemm"]}, staged)


def units(database: Database, subject: str) -> list[str]:
    with database.snapshot() as session:
        return [row.status for row in session.query(Work).filter_by(subject=subject)]


def test_a_file_is_validated_first_and_then_what_waits_for_it(
    database: Database, blobs: BlobStore, rung: list[Message]
) -> None:
    trajectory_id, [file_id] = run(database, blobs, "architecture")
    checkpoints = [send(database, blobs, trajectory_id, step) for step in (1, 2)]
    assert len(rung) == 1  # for the file alone
    assert units(database, file_id) == ["queued"]
    assert [units(database, one) for one in checkpoints] == [["waiting"], ["waiting"]]
    accept(database, blobs, file_id)
    assert [units(database, one) for one in checkpoints] == [["queued"], ["queued"]]
    assert len(rung) == 3
    with database.snapshot() as session:
        file = trajectories.file(session, trajectory_id, "architecture")
        assert file is not None and (file.status, file.info) == ("ready", {"operators": ["Gemm"]})
        assert session.get_one(Blob, file.blob).bytes == len(f"canonical {file_id}")
        assert session.get(Blob, file.sha256) is None, "the stranger's bytes are gone"


def test_a_checkpoint_waits_for_every_file(database: Database, blobs: BlobStore) -> None:
    trajectory_id, [first, second] = run(database, blobs, "architecture", "base")
    checkpoint_id = send(database, blobs, trajectory_id)
    accept(database, blobs, first)
    assert units(database, checkpoint_id) == ["waiting"]
    accept(database, blobs, second)
    assert units(database, checkpoint_id) == ["queued"]


def test_a_checkpoint_sent_later_does_not_wait(database: Database, blobs: BlobStore) -> None:
    trajectory_id, [file_id] = run(database, blobs, "architecture")
    accept(database, blobs, file_id)
    assert units(database, send(database, blobs, trajectory_id)) == ["queued"]


def test_without_files_nothing_waits(database: Database, blobs: BlobStore) -> None:
    trajectory_id, _ = run(database, blobs)
    assert units(database, send(database, blobs, trajectory_id)) == ["queued"]


def test_what_waits_for_a_refused_file_is_refused_with_its_reason(
    database: Database, blobs: BlobStore
) -> None:
    trajectory_id, [file_id] = run(database, blobs, "architecture")
    checkpoint_id = send(database, blobs, trajectory_id)
    with database.transaction() as session:
        trajectories.lock_owner(session, file_id)
        sweeper.give_up(session, blobs, file_id, REFUSED)
    with database.snapshot() as session:
        file, checkpoint = (
            session.get_one(TrajectoryFile, file_id),
            session.get_one(Checkpoint, checkpoint_id),
        )
        assert (file.status, file.error, file.blob) == ("invalid", REFUSED, None)
        assert (checkpoint.status, checkpoint.blob) == ("invalid", None)
        assert checkpoint.error is not None
        assert checkpoint.error["code"] == "invalid_architecture"
        assert "unknown operator" in checkpoint.error["detail"]
        assert session.query(Blob).count() == 0
    assert units(database, checkpoint_id) == units(database, file_id) == []


def test_a_deleted_trajectory_leaves_neither_file_nor_work(database: Database, blobs: BlobStore) -> None:
    trajectory_id, _ = run(database, blobs, "architecture", "base")
    send(database, blobs, trajectory_id)
    with database.transaction() as session:
        trajectory = trajectories.locked(session, PROJECT, trajectory_id)
        assert trajectory is not None
        trajectories.delete(session, blobs, trajectory)
    with database.snapshot() as session:
        for table in (Trajectory, TrajectoryFile, Checkpoint, Work, Blob):
            assert session.query(table).count() == 0


def test_workers_that_die_over_a_file_end_in_a_refusal(database: Database, blobs: BlobStore) -> None:
    trajectory_id, [file_id] = run(database, blobs, "architecture")
    checkpoint_id = send(database, blobs, trajectory_id)
    with database.transaction() as session:
        [unit] = work.of(session, file_id, "validate")
        assert work.claim(session, unit.id, 1, "a worker", -1) is not None
    assert sweeper.sweep(database, blobs, max_attempts=1, lease_seconds=60) >= 1
    with database.snapshot() as session:
        error = session.get_one(Checkpoint, checkpoint_id).error or {}
        assert (error["code"], error["fault"]) == ("invalid_architecture", "service")
