"""Selections in the store: their states, their files, and what goes with their job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.store import chosen, jobs, scores, selections, sweeper, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Blob, Job, Selection, Work
from app.store.work import Lease, LeaseLostError

N = 6


def job_of(database: Database) -> str:
    """A job that succeeded, with scores."""
    with database.transaction() as session:
        job = jobs.create(session, type="influence", project_id="p", seed=0, checkpoint_ids=[])
        job.status = "succeeded"
        work.drop(session, job.id)
        values = np.arange(N, dtype=np.float64)
        columns: dict[str, Any] = dict.fromkeys(("score", "label", "predicted_label", "loss"), values)
        columns |= {"sample_index": np.arange(N), "rank": scores.ranks(values)}
        columns |= {"contributions": np.zeros((N, 1)), "losses": np.ones((N, 1))}
        columns["sample_id"] = np.array(["a", "b", "c", "a", "e", "f"])
        scores.write(session, job.id, columns)
        return job.id


def selection_of(database: Database, job_id: str) -> tuple[str, Lease]:
    """A selection that a worker has begun."""
    with database.transaction() as session:
        selection = selections.create(
            session, job_id=job_id, project_id="p", type="clean", request={}, num_samples=N
        )
        [unit] = work.of(session, selection.id, "select")
    with database.transaction() as session:
        assert work.claim(session, unit.id, 1, "a worker", 60)
        found = selections.locked(session, selection.id)
        assert found is not None
        selections.start(found)
    return selection.id, Lease(unit.id, 1, "a worker")


def end(database: Database, blobs: BlobStore, selection_id: str, lease: Lease, tmp_path: Path) -> None:
    """What a worker does at the end."""
    rows = chosen.rows(np.array([1, 2], dtype=np.uint8), {"sample_index": [4, 2], "suggested_label": [0, 7]})
    chosen.write(tmp_path / "rows", rows)
    with database.transaction() as session:
        work.finish(session, lease)
        selection = session.get_one(Selection, selection_id)
        selection.size = 2
        selections.keep(session, blobs, selection, selections.ROWS, tmp_path / "rows")
        selections.succeed(session, blobs, selection, {"remove": 1})


def test_it_succeeds_with_its_rows_and_leaves_no_work(
    database: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    selection_id, lease = selection_of(database, job_of(database))
    end(database, blobs, selection_id, lease, tmp_path)
    with database.snapshot() as session:
        selection = session.get_one(Selection, selection_id)
        assert (selection.status, selection.size, selection.result) == ("succeeded", 2, {"remove": 1})
        assert session.query(Work).count() == 0
        found = selections.path(session, blobs, selection_id, selections.ROWS)
        assert found is not None
        keep, remove, relabel = chosen.parts(chosen.read(found[0]), N)
    assert (keep.tolist(), remove.tolist()) == ([0, 1, 3, 5], [4])
    assert (relabel["sample_index"].tolist(), relabel["suggested_label"].tolist()) == ([2], [7])


def test_its_job_takes_it_along_with_its_files(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    job_id = job_of(database)
    ended, lease = selection_of(database, job_id)
    end(database, blobs, ended, lease, tmp_path)
    _, late = selection_of(database, job_id)
    with database.transaction() as session:
        jobs.delete(session, blobs, session.get_one(Job, job_id))
    with database.snapshot() as session:
        assert session.query(Selection).count() == session.query(Work).count() == 0
        assert session.query(Blob).count() == 0
    with pytest.raises(LeaseLostError), database.transaction() as session:
        work.finish(session, late)


def test_one_whose_worker_fell_silent_is_tried_again_then_given_up(
    database: Database, blobs: BlobStore
) -> None:
    selection_id, lease = selection_of(database, job_of(database))
    for attempt in (2, 3):
        with database.transaction() as session:
            unit = session.get_one(Work, lease.work_id)
            unit.lease_expires_at = time.time() - 1
        assert sweeper.sweep(database, blobs, max_attempts=2, lease_seconds=60) == 1
        with database.transaction() as session:
            work.claim(session, lease.work_id, attempt, "another", 60)
    with database.snapshot() as session:
        selection = session.get_one(Selection, selection_id)
        assert selection.status == "failed"
        assert selection.error is not None and selection.error["code"] == "worker_lost"
        assert session.query(Work).count() == 0


def test_where_some_are_kept_the_rest_is_removed() -> None:
    rows = chosen.rows(np.zeros(2, dtype=np.uint8), {"sample_index": [5, 1]})
    keep, remove, relabel = chosen.parts(rows, N)
    assert (keep.tolist(), remove.tolist(), len(relabel)) == ([1, 5], [0, 2, 3, 4], 0)


def test_scores_are_read_whole_and_found_by_id(database: Database) -> None:
    job_id = job_of(database)
    with database.snapshot() as session:
        found = scores.arrays(session, job_id, "score", "suspicion", "losses")
        assert found["score"].tolist() == [0, 1, 2, 3, 4, 5]
        assert np.isnan(found["suspicion"]).all() and found["losses"].shape == (N, 1)
        assert scores.by_ids(session, job_id, ["a", "f", "z"]) == {"a": [0, 3], "f": [5]}
        assert scores.ids_of(session, job_id, [1, 4]) == {1: "b", 4: "e"}
        assert scores.count_at_least(session, job_id, "score", 3) == 3
