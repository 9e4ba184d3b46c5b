"""Opens what was uploaded and accepts or refuses it: data sets and trajectories' files leave `validating`
here."""

from __future__ import annotations

import tempfile
from pathlib import Path

from app.catalog import Task
from app.store import datasets, trajectories, work
from app.store.blobs import digest
from app.store.tables import BatchOrder, Checkpoint, Dataset, Trajectory, TrajectoryFile, Work
from worker import reading
from worker.graphs import described
from worker.influence.networks import ExpectedTensors
from worker.lease import Renewal
from worker.loading import FILES, Asked, LoadError
from worker.networks import tensors_below, tensors_of
from worker.problems import UserError
from worker.process import Process
from worker.quotas import refuse_bytes


def validate(mine: Process, row: Work, renewal: Renewal) -> None:
    """Validates the data set or the trajectory's file that the unit is about.

    Raises:
        UserError: the file is refused; the problem becomes the resource's `error`.
    """
    try:
        if row.subject.startswith("ds_"):
            _dataset(mine, row, renewal)
        elif row.subject.startswith("bo_"):
            _batch_order(mine, row, renewal)
        elif row.subject.startswith("tf_"):
            _file(mine, row, renewal)
        else:
            _checkpoint(mine, row, renewal)
    except LoadError as refused:
        raise UserError(refused.code, refused.detail, refused.errors) from refused


def _dataset(mine: Process, row: Work, renewal: Renewal) -> None:
    with mine.database.snapshot() as session:
        dataset = session.get_one(Dataset, row.subject)
        assert dataset.source_blob  # noqa: S101  (kept until the validation ends)
        path = mine.blobs.path(session, dataset.source_blob)
        tokenizer = mine.blobs.path(session, dataset.tokenizer_blob) if dataset.tokenizer_blob else None
    asked = Asked.of(dataset.options, tokenizer)
    with tempfile.TemporaryDirectory(dir=mine.blobs.staging) as folder:
        info = reading.dataset(mine.settings, renewal, path, dataset.format, Path(folder), asked)
        renewal.tick()
        paths = {name: Path(folder) / file for name, file in FILES.items()}
        files = {name: path for name, path in paths.items() if path.exists()}
        known = {path: digest(path) for path in files.values()}  # before others wait for us
        renewal.tick()
        sizes = {sha256: path.stat().st_size for path, sha256 in known.items()}
        with mine.blobs.ahead(*known, known=known), mine.database.transaction() as session:
            refuse_bytes(session, mine.settings, dataset.project_id, sizes, in_place_of=row.subject)
            work.finish(session, renewal.lease)
            dataset = session.get_one(Dataset, row.subject)
            datasets.ready(session, mine.blobs, dataset, info, files)


def _checkpoint(mine: Process, row: Work, renewal: Renewal) -> None:
    with mine.database.snapshot() as session:
        checkpoint = session.get_one(Checkpoint, row.subject)
        assert checkpoint.blob  # noqa: S101  (kept until the validation ends)
        path = mine.blobs.path(session, checkpoint.blob)
        state = mine.blobs.path(session, checkpoint.optimizer_blob) if checkpoint.optimizer_blob else None
        trajectory = session.get_one(Trajectory, checkpoint.trajectory_id)
        expected = tensors_of(session, mine.blobs, trajectory)
    with mine.blobs.stage() as staged, mine.blobs.stage() as staged_state:
        info = reading.checkpoint(mine.settings, renewal, path, expected, staged)
        renewal.tick()
        held = []
        if state:
            held = reading.optimizer_state(mine.settings, renewal, state, expected, staged_state)
        renewal.tick()
        with mine.blobs.ahead(staged, staged_state), mine.database.transaction() as session:
            work.finish(session, renewal.lease)
            checkpoint = session.get_one(Checkpoint, row.subject)
            if state:
                trajectories.keep_state(session, mine.blobs, checkpoint, staged_state, held)
            trajectories.ready(session, mine.blobs, checkpoint, info, staged)


def _file(mine: Process, row: Work, renewal: Renewal) -> None:
    with mine.database.snapshot() as session:
        file = session.get_one(TrajectoryFile, row.subject)
        assert file.blob  # noqa: S101  (kept until the validation ends)
        path, trajectory_id = mine.blobs.path(session, file.blob), file.trajectory_id
        trajectory, role = session.get_one(Trajectory, trajectory_id), file.role
        task = Task.model_validate(trajectory.task)
        below = tensors_below(trajectory) if role == "base" else None
    if below is not None:
        _base(mine, row, renewal, path, below)
        return
    with mine.blobs.stage() as staged:
        info = reading.graph(mine.settings, renewal, path, staged)
        renewal.tick()
        config = described(staged, info)
        if wrong := config.check_task(task):
            raise UserError("shape_mismatch", wrong)
        renewal.tick()
        with mine.blobs.ahead(staged), mine.database.transaction() as session:
            trajectories.lock_owner(session, row.subject)
            work.finish(session, renewal.lease)
            trajectories.network_known(session, trajectory_id, config.model_dump(by_alias=True))
            file = session.get_one(TrajectoryFile, row.subject)
            trajectories.ready(session, mine.blobs, file, {}, staged)


def _base(mine: Process, row: Work, renewal: Renewal, path: Path, below: ExpectedTensors) -> None:
    with mine.blobs.stage() as staged:
        info = reading.checkpoint(mine.settings, renewal, path, below, staged)
        renewal.tick()
        with mine.blobs.ahead(staged), mine.database.transaction() as session:
            trajectories.lock_owner(session, row.subject)
            work.finish(session, renewal.lease)
            file = session.get_one(TrajectoryFile, row.subject)
            trajectories.ready(session, mine.blobs, file, info, staged)


def _batch_order(mine: Process, row: Work, renewal: Renewal) -> None:
    with mine.database.snapshot() as session:
        order = session.get_one(BatchOrder, row.subject)
        assert order.blob  # noqa: S101  (kept until the validation ends)
        path = mine.blobs.path(session, order.blob)
    with tempfile.TemporaryDirectory(dir=mine.blobs.staging) as folder, mine.blobs.stage() as staged:
        info = reading.batch_order(mine.settings, renewal, path, staged, Path(folder))
        renewal.tick()
        with mine.blobs.ahead(staged), mine.database.transaction() as session:
            work.finish(session, renewal.lease)
            order = session.get_one(BatchOrder, row.subject)
            trajectories.ready(session, mine.blobs, order, info, staged)
