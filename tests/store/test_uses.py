"""Who uses what was sent, counted on both databases."""

from __future__ import annotations

from typing import Any

from app.store import datasets, jobs, trajectories, uses
from app.store.blobs import BlobStore
from app.store.db import Database, new_id
from app.store.tables import Trajectory
from app.store.uses import Checkpoints, Sent


def set_of(database: Database, blobs: BlobStore, size: int, project_id: str = "p") -> str:
    with database.transaction() as session, blobs.stage() as staged:
        staged.write_bytes(f"{new_id('x')}".encode())
        blob = blobs.keep(session, staged)
        about: dict[str, Any] = {"project_id": project_id, "format": "npz", "filename": "a.npz"}
        return datasets.create(session, blob, bytes=size, **about).id


def run_of(database: Database, project_id: str = "p") -> str:
    network = {"name": "linear", "config": {}}
    with database.transaction() as session:
        run = trajectories.create(
            session,
            project_id=project_id,
            name="",
            architecture=network,
            task={},
            preprocessing={},
            optimizer={},
        )
        session.flush()
        return run.id


def checkpoint_of(database: Database, blobs: BlobStore, run_id: str, step: int, status: str) -> None:
    with database.transaction() as session, blobs.stage() as staged:
        staged.write_bytes(f"{run_id} {step}".encode())
        blob = blobs.keep(session, staged)
        run = session.get_one(Trajectory, run_id)
        values: dict[str, Any] = {"filename": "1.safetensors", "bytes": 100, "step": step}
        trajectories.add_checkpoint(session, run, blob, **values).status = status


def job_of(database: Database, runs: list[str], train: str, query: str | None) -> str:
    values: dict[str, Any] = {"train_dataset_id": train, "query_dataset_id": query, "checkpoint_ids": []}
    with database.transaction() as session:
        return jobs.create(
            session, type="influence", trajectory_ids=runs, project_id="p", seed=0, **values
        ).id


def test_each_input_tells_how_many_jobs_name_it(database: Database, blobs: BlobStore) -> None:
    train, query, spare = (set_of(database, blobs, 10) for _ in range(3))
    one, two = run_of(database), run_of(database)
    first = job_of(database, [one], train, query)
    both = job_of(database, [one, two], train, train)
    with database.snapshot() as session:
        assert uses.of_datasets(session, [train, query, spare]) == {train: 2, query: 1, spare: 0}
        assert uses.of_trajectories(session, [one, two]) == {one: 2, two: 1}
        found = uses.jobs_with(session, "p", 10, dataset_id=train)
        assert [job.id for job in found] == [both, first]
        assert [job.id for job in uses.jobs_with(session, "p", 10, trajectory_id=two)] == [both]
        assert uses.jobs_with(session, "another", 10, dataset_id=train) == []
        assert uses.of_datasets(session, []) == uses.of_trajectories(session, []) == {}


def test_what_was_sent_is_counted_for_each_project(database: Database, blobs: BlobStore) -> None:
    set_of(database, blobs, 10)
    set_of(database, blobs, 2**40)
    set_of(database, blobs, 7, "another")
    run, empty, other = run_of(database), run_of(database), run_of(database, "another")
    for step, status in ((0, "ready"), (5, "validating"), (9, "invalid"), (9, "ready")):
        checkpoint_of(database, blobs, run, step, status)
    checkpoint_of(database, blobs, other, 1, "ready")
    with database.snapshot() as session:
        assert uses.checkpoints(session, [run, empty]) == {
            run: Checkpoints(total=4, invalid=1, validating=1, bytes=400),
            empty: Checkpoints(0, 0, 0, 0),
        }
        assert uses.sent(session, "p") == Sent(2, 10 + 2**40, 2, 400)
        assert uses.sent(session, "nobody") == Sent(0, 0, 0, 0)
