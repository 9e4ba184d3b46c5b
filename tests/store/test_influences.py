"""Influences on single queries: the strongest of each column, and files that go with their job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.store import jobs
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.influences import ranked, strongest
from app.store.tables import Blob


@given(st.data())
def test_the_strongest_are_the_ends_of_the_sorted_column(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
    top = data.draw(st.integers(1, 35))
    matrix = np.array(values, dtype=np.float32)[:, None]
    [record] = strongest(matrix, np.array([9]), top)
    by_index = range(len(values))
    assert record["query"] == 9
    assert list(record["samples"][0]) == sorted(by_index, key=lambda at: (-values[at], at))[:top]
    assert list(record["samples"][1]) == sorted(by_index, key=lambda at: (values[at], at))[:top]
    assert list(record["scores"][0]) == [values[at] for at in record["samples"][0]]


def test_they_are_read_by_query_from_a_rank_on(tmp_path: Path) -> None:
    matrix = np.array([[1, -5], [3, -4], [2, 0]], dtype=np.float32)
    np.save(tmp_path / "ranked.npy", strongest(matrix, np.array([40, 7]), 3))
    found = ranked(tmp_path / "ranked.npy", 7, "proponents", after=1)
    assert found is not None
    assert [tuple(one) for one in found] == [(2, 1, -4.0), (3, 2, 0.0)]
    assert ranked(tmp_path / "ranked.npy", 8, "opponents") is None


def test_the_files_go_with_their_job(database: Database, blobs: BlobStore) -> None:
    with database.transaction() as session:
        job = jobs.create(session, project_id="p", type="influence", method={}, seed=0, checkpoint_ids=[])
        for column in ("influences_blob", "ranked_blob"):
            with blobs.stage() as staged:
                staged.write_text(column)
                setattr(job, column, blobs.keep(session, staged))
        jobs.fail(session, blobs, job, {"code": "a_test"})
    kept = [job.influences_blob, job.ranked_blob]
    with database.snapshot() as session:
        files = [blobs.path(session, sha256 or "") for sha256 in kept]
    assert all(file.exists() for file in files)
    with database.transaction() as session:
        jobs.delete(session, blobs, session.merge(job))
    with database.snapshot() as session:
        assert [session.get(Blob, sha256) for sha256 in kept] == [None, None]
    assert not any(file.exists() for file in files)
