"""What a worker makes of a project's files fits into its quota of bytes, or is refused in words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.settings import Quota, Settings
from app.store import datasets, exports, jobs, scores, trajectories, usage, work
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Dataset, Export
from tests.api.front_end import scored
from worker import reading, run
from worker.fence import Json
from worker.process import Process

ROWS = 10_000
ARRAYS = ROWS * (4 * 4 + 8)  # bytes, beside two short headers


class Unfenced:
    """The readers in this process, which has threads: a fence is made before there are any."""

    def call(self, name: str, argument: Json, _bounds: Any, _tick: Any) -> Json:
        return reading.CALLS[name](argument)


@pytest.fixture(autouse=True)
def _unfenced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_fences", [Unfenced()])


def process_of(database: Database, blobs: BlobStore, folder: Path, most: int) -> Process:
    settings = Settings(data_dir=folder, project_quotas={"small": Quota(bytes=most)})
    return Process(settings, database, blobs, "a worker")


def do(mine: Process, subject: str) -> None:
    """The subject's only unit of work."""
    with mine.database.snapshot() as session:
        unit = work.next_of(session, subject)
    assert unit is not None
    claimed = run._claim(mine, unit)
    assert claimed is not None
    run._attempt(mine, claimed)


def uploaded(mine: Process) -> str:
    """A data set of zeros: its file is small, its arrays are not."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=np.zeros((ROWS, 4), np.float32), targets=np.zeros(ROWS, np.int64))
    about: dict[str, Any] = {"project_id": "small", "format": "npz", "filename": "a.npz", "options": {}}
    with mine.blobs.stage() as staged, mine.database.transaction() as session:
        size = staged.write_bytes(buffer.getvalue())
        blob = mine.blobs.keep(session, staged)
        return datasets.create(session, blob, bytes=size, **about).id


def test_arrays_that_do_not_fit_are_refused(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    dataset_id = uploaded(mine := process_of(database, blobs, tmp_path, ARRAYS))
    do(mine, dataset_id)
    with database.snapshot() as session:
        dataset = session.get_one(Dataset, dataset_id)
        assert (dataset.status, usage.stored(session, "small")) == ("invalid", 0)
        assert dataset.error is not None and dataset.error["code"] == "quota_exceeded"
        assert f"{ARRAYS:,} bytes" in dataset.error["detail"]


def test_the_file_itself_makes_room_for_its_arrays(
    database: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    dataset_id = uploaded(mine := process_of(database, blobs, tmp_path, ARRAYS + 256))
    do(mine, dataset_id)
    with database.snapshot() as session:
        assert session.get_one(Dataset, dataset_id).status == "ready"
        assert usage.stored(session, "small") == ARRAYS + 256  # the headers are of 128 bytes each


def test_an_export_that_does_not_fit_fails(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    mine = process_of(database, blobs, tmp_path, 100)
    about: dict[str, Any] = {"method": {"name": "loss"}, "seed": 0, "checkpoint_ids": ["ck_1"]}
    network = {"architecture": {}, "task": {"type": "classification"}, "preprocessing": {}, "optimizer": {}}
    with database.transaction() as session:
        row = trajectories.create(session, project_id="small", **network)
        session.flush()
        about["trajectory_ids"] = [row.id]
        job = jobs.create(session, type="influence", project_id="small", **about)
        scores.write(session, job.id, scored())
        jobs.start(session, job, 1)
        jobs.succeed(session, blobs, job, {"num_samples": 12, "self_influence": False})
        export = exports.create(session, job, 12, format="csv", ordered_by="index")
    do(mine, export.id)
    with database.snapshot() as session:
        made = session.get_one(Export, export.id)
        assert (made.status, made.blob) == ("failed", None)
        assert made.error is not None and made.error["code"] == "quota_exceeded"
