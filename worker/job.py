"""An influence job as the engine wants it: task, schedule, checkpoints and data, loaded from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, overload

import torch
from safetensors.torch import load_file
from sqlalchemy.orm import Session

from app.catalog import ARCHITECTURES
from app.catalog import METHODS as CATALOG
from app.catalog.methods import BATCH, Options
from app.store import jobs, trajectories, work
from app.store.datasets import Arrays
from app.store.tables import Dataset, Job, Trajectory
from worker.data import StoredData, selected
from worker.influence.methods import METHODS, Method
from worker.influence.networks import build
from worker.influence.preprocessing import Preprocessing
from worker.influence.task import Task
from worker.influence.trajectory import Checkpoint, Schedule
from worker.influence.trajectory import Trajectory as EngineTrajectory
from worker.process import Process

DTYPE = torch.float32


@dataclass(frozen=True)
class InfluenceJob:
    """One job's inputs, read once and kept while this process works on it."""

    id: str
    seed: int
    method: Method
    options: dict[str, Any]
    task: Task
    schedule: Schedule
    checkpoint_files: tuple[Path, ...]
    train: Arrays
    query: Arrays | None
    query_selection: dict[str, Any] | None
    preprocessing: Preprocessing
    device: torch.device
    classification: bool
    batch_size: int
    batch_size_known: bool
    cost: Options

    def train_data(self, tick: Callable[[int], None]) -> StoredData:
        return self._data(self.train, None, tick)

    def query_data(self, tick: Callable[[int], None]) -> StoredData | None:
        if self.query is None:
            return None
        return self._data(self.query, selected(self.query, self.query_selection), tick)

    @cached_property
    def trajectory(self) -> EngineTrajectory:
        """The run as the engine takes it: a checkpoint is read when it is asked for."""
        return EngineTrajectory(
            Files(self.checkpoint_files, self.schedule, self.parameters, self.device), self.schedule
        )

    @cached_property
    def parameters(self) -> list[str]:
        """Names of the network's parameters, in its own order: transforms compare the order of keys too."""
        return [name for name, _ in self.task.network.named_parameters()]

    def _data(self, arrays: Arrays, rows: Any, tick: Callable[[int], None]) -> StoredData:
        targets = torch.int64 if self.classification else DTYPE
        return StoredData(arrays, self.preprocessing, targets, self.device, rows=rows, tick=tick)


class Files(Sequence[Checkpoint]):
    """Checkpoints, by step, as files: the two asked for last are kept on the device."""

    def __init__(
        self, files: Sequence[Path], schedule: Schedule, parameters: list[str], device: torch.device
    ) -> None:
        self._files, self._schedule, self._parameters, self._device = files, schedule, parameters, device
        self._read = lru_cache(maxsize=2)(self._load)

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, k: int) -> Checkpoint: ...
    @overload
    def __getitem__(self, k: slice) -> Sequence[Checkpoint]: ...
    def __getitem__(self, k: int | slice) -> Checkpoint | Sequence[Checkpoint]:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        return self._read(range(len(self))[k])

    def _load(self, k: int) -> Checkpoint:
        tensors = load_file(self._files[k], device=str(self._device))
        return Checkpoint(
            step=self._schedule.steps[k],
            learning_rates=self._schedule.learning_rates[k],
            params={name: tensors[name].to(DTYPE) for name in self._parameters},
            buffers={
                name: t.to(DTYPE) if t.is_floating_point() else t
                for name, t in tensors.items()
                if name not in self._parameters
            },
        )


def locked(session: Session, job_id: str) -> Job:
    """The job's record, locked until the end of the transaction; LeaseLostError when it is gone."""
    record = jobs.locked(session, job_id)
    if record is None:
        raise work.LeaseLostError(job_id)
    return record


def load(mine: Process, job_id: str) -> InfluenceJob:
    """The job, from what this process has at hand if it is the same one."""
    if mine.at_hand.get("job_id") != job_id:
        mine.at_hand.clear()
        with mine.database.snapshot() as session:
            loaded = _load(mine, session, job_id)
        mine.at_hand.update(job_id=job_id, job=loaded)
    job: InfluenceJob = mine.at_hand["job"]
    return job


def _load(mine: Process, session: Session, job_id: str) -> InfluenceJob:
    job = session.get_one(Job, job_id)
    trajectory = session.get_one(Trajectory, job.trajectory_id)
    rows = trajectories.in_order(session, job.checkpoint_ids)
    train = Arrays(session, mine.blobs, session.get_one(Dataset, job.train_dataset_id))
    query = (
        Arrays(session, mine.blobs, session.get_one(Dataset, job.query_dataset_id))
        if job.query_dataset_id
        else None
    )
    architecture, optimizer = trajectory.architecture, trajectory.optimizer
    device = pick_device(mine.settings.device)
    options = {key: value for key, value in job.method.items() if key != "name"}
    batch_size = trajectory.batch_size or BATCH
    inputs = ARCHITECTURES[architecture["name"]].config.inputs
    return InfluenceJob(
        id=job.id,
        seed=job.seed,
        method=METHODS[job.method["name"]],
        options=options | {"batch_size": batch_size},
        task=Task(build(architecture["name"], architecture["config"]).to(device), trajectory.task["loss"]),
        schedule=Schedule(
            steps=tuple(row.step for row in rows),
            learning_rates=_rates([row.step for row in rows], rows),
            total_steps=trajectory.total_steps,
            train_size=trajectory.train_size or len(train),
            momentum=optimizer.get("momentum", 0.0),
            weight_decay=optimizer.get("weight_decay", 0.0),
            decoupled=optimizer["name"] == "adamw",
            optimizer=optimizer["name"],
        ),
        checkpoint_files=tuple(mine.blobs.path(session, row.blob or "") for row in rows),
        train=train,
        query=query,
        query_selection=job.query,
        preprocessing=Preprocessing(inputs=inputs, **trajectory.preprocessing),
        device=device,
        classification=trajectory.task["type"] == "classification",
        batch_size=batch_size,
        batch_size_known=trajectory.batch_size is not None,
        cost=CATALOG[job.method["name"]].options.model_validate(job.method),
    )


def _rates(steps: list[int], rows: list[Any]) -> tuple[tuple[float, ...], ...]:
    """One learning rate a step since the checkpoint before, for each checkpoint."""
    before = [0, *steps[:-1]]
    return tuple(
        tuple(row.learning_rates) if row.learning_rates else (row.learning_rate,) * (row.step - start)
        for row, start in zip(rows, before, strict=True)
    )


def pick_device(wanted: str) -> torch.device:
    """The device to compute on: CUDA when there is one, unless told otherwise."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)
