"""The quick storm: ten random faults against ten jobs, after which nothing is lost, doubled or different. And
that its oracle would see it, were it so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from app.store import events, jobs, scores, training
from app.store.blobs import BlobStore
from app.store.db import Database, new_id
from app.store.tables import Blob, Work
from tests.chaos.storm import oracle
from tests.chaos.storm.questions import Order, same
from tests.chaos.storm.watch import Unit, got_on, is_back

ROOT = Path(__file__).parents[2]


def kept(database: Database, blobs: BlobStore, content: bytes) -> str:
    with database.transaction() as session, blobs.stage() as staged:
        staged.write_bytes(content)
        return blobs.keep(session, staged)


def test_the_oracle_sees_what_was_left_behind(database: Database, blobs: BlobStore) -> None:
    assert oracle.orphans(database, blobs.folder) == []
    spoilt, unnamed = kept(database, blobs, b"spoilt"), kept(database, blobs, b"nobody names it")
    columns: dict[str, Any] = {name: np.zeros(2) for name in ("score", "label", "predicted_label", "loss")}
    columns |= {"sample_index": np.arange(2), "rank": np.arange(1, 3)}
    columns |= {"contributions": np.zeros((2, 1)), "losses": np.zeros((2, 1))}
    ghost = new_id("job")
    with database.transaction() as session, blobs.stage() as staged:
        job = jobs.create(session, project_id="p", type="train", seed=0, checkpoint_ids=[])
        session.flush()
        staged.write_bytes(b"a state")
        training.keep(session, blobs, job.id, training.Written(0, False, staged, None, (), {}))
        session.execute(update(Work).values(result_blob=spoilt))
        scores.write(session, ghost, columns)
        events.append(session, ghost, "job.queued", {})
    with database.snapshot() as session:
        location = session.scalars(select(Blob.location).where(Blob.sha256 == spoilt)).one()
    (blobs.folder / location).write_bytes(b"SPOILT")
    found = "\n".join(oracle.orphans(database, blobs.folder))
    for what in (
        f"work prepare of {job.id}: queued",
        f"training state of {job.id}",
        f"scores of {ghost}",
        f"events of {ghost}",
        f"blob {unnamed}: no row names it",
        f"blob {spoilt}: its file is not as it says",
    ):
        assert what in found
    assert any("rows of jobs" in one for one in oracle.rows_left(database))


def test_the_oracle_sees_files_that_nothing_names(database: Database, blobs: BlobStore) -> None:
    location = kept(database, blobs, b"content")
    assert oracle.left_over(database, blobs) == []
    (blobs.staging / "left").write_bytes(b"by a killed process")
    assert oracle.left_over(database, blobs) == []  # garbage collection takes it
    with database.snapshot() as session:
        (blobs.folder / session.get_one(Blob, location).location).unlink()
    assert len(oracle.left_over(database, blobs)) == 1


def test_the_oracle_sees_what_is_lost_and_what_differs() -> None:
    ended = {None: 1, "failed": 1, "cancelled": 1, "succeeded": 0, "ready": 0}
    for end, count in ended.items():
        assert len(oracle.lost([Order("1", "tracin", "/v1/jobs/1", end)])) == count
    assert same({"score": 0.1 + 0.2}, {"score": 0.30000000000000004})
    assert not same({"score": 0.1 + 0.2}, {"score": 0.3})


def test_a_unit_gets_on_by_another_attempt_a_renewed_lease_or_its_end() -> None:
    hit = Unit("block", "job_1", "running", 1, "a", 10.0)
    assert not got_on(hit, hit) and not is_back(hit, hit)
    again = hit._replace(status="queued", attempt=2, owner=None, expires=None)
    assert is_back(hit, again) and not got_on(hit, again)
    for now in (again._replace(status="running", owner="b"), hit._replace(expires=11.0), None):
        assert got_on(hit, now)
    assert got_on(hit, hit._replace(status="done"))


@pytest.mark.slow
def test_after_a_quick_storm_all_is_as_if_there_had_been_none() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos.storm", "--quick"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    told = dict(re.findall(r"^bar: (chaos\.\w+) \S+ \S+ (ok|short)$", ran.stdout, re.MULTILINE))
    kept = {f"chaos.{what}" for what in ("lost", "doubled", "differing", "orphans", "unexpected")}
    assert kept <= {name for name, verdict in told.items() if verdict == "ok"}, ran.stdout + ran.stderr
    # how soon work goes on depends on who else wants the cores: that figure is for `make chaos`
    assert "chaos.recovery_leases" in told
