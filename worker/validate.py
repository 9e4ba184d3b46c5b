"""Opens what was uploaded and accepts or refuses it: data sets and checkpoints leave `validating` here."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from app.store import datasets, trajectories, work
from app.store.tables import Checkpoint, Dataset, Trajectory, Work
from worker.influence.networks import build, expected_tensors
from worker.lease import Renewal
from worker.loading import LoadError, load_checkpoint, load_dataset
from worker.problems import UserError
from worker.process import Process


def validate(mine: Process, row: Work, renewal: Renewal) -> None:
    """Validates the data set or checkpoint that the unit is about.

    Raises:
        UserError: the file is refused; the problem becomes the resource's `error`.
    """
    try:
        if row.subject.startswith("ds_"):
            _dataset(mine, row, renewal)
        else:
            _checkpoint(mine, row, renewal)
    except LoadError as refused:
        raise UserError(refused.code, refused.detail, refused.errors) from refused


def _dataset(mine: Process, row: Work, renewal: Renewal) -> None:
    with mine.database.snapshot() as session:
        dataset = session.get_one(Dataset, row.subject)
        assert dataset.source_blob  # noqa: S101  (kept until the validation ends)
        path = mine.blobs.path(session, dataset.source_blob)
    with tempfile.TemporaryDirectory(dir=mine.blobs.staging) as folder:
        info = load_dataset(path, dataset.format, Path(folder))
        renewal.tick()
        arrays = {name: Path(folder) / f"{name}.npy" for name in ("inputs", "targets", "ids")}
        with mine.database.transaction() as session:
            work.finish(session, renewal.lease)
            datasets.ready(
                session,
                mine.blobs,
                session.get_one(Dataset, row.subject),
                info.as_dict(),
                {name: array for name, array in arrays.items() if array.exists()},
            )


def _checkpoint(mine: Process, row: Work, renewal: Renewal) -> None:
    with mine.database.snapshot() as session:
        checkpoint = session.get_one(Checkpoint, row.subject)
        assert checkpoint.blob  # noqa: S101  (kept until the validation ends)
        path = mine.blobs.path(session, checkpoint.blob)
        architecture = session.get_one(Trajectory, checkpoint.trajectory_id).architecture
    with torch.device("meta"):
        network = build(architecture["name"], architecture["config"])
    with mine.blobs.stage() as staged:
        info = load_checkpoint(path, expected_tensors(network), staged)
        renewal.tick()
        with mine.database.transaction() as session:
            work.finish(session, renewal.lease)
            trajectories.ready(
                session, mine.blobs, session.get_one(Checkpoint, row.subject), info.as_dict(), staged
            )
