"""A training job as the engine wants it: network, schedule, batch order and data; its states as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sqlalchemy.orm import Session

from app.catalog import Recipe
from app.store import tables, trajectories
from app.store.datasets import Arrays
from app.store.tables import TrainingState
from worker.data import prepared
from worker.influence.networks import expected_tensors
from worker.influence.order import loader_order
from worker.influence.preprocessing import Preprocessing
from worker.influence.task import Task, Tensors
from worker.influence.training import State, carries
from worker.influence.trajectory import Data, Schedule
from worker.job import pick_device
from worker.networks import network_of, preprocessing_of, task_of
from worker.process import Process, at_hand
from worker.runs import DTYPE, rates_of, schedule_of


@dataclass(frozen=True)
class TrainJob:
    """One job's inputs, read once and kept while this process works on it.

    Attributes:
        described: the trajectory that tells of the network: a record, or one that is none.
        task: its network has the values that it starts from where there is no checkpoint.
        trained, held: names of the tensors that are trained, and of the others that a checkpoint holds.
        schedule: of the whole run, one segment.
        order: rows of each step's batch, int64 [T, B].
        kept: steps after which the state becomes a checkpoint.
        start: the checkpoint that training starts from, if any.
    """

    id: str
    described: tables.Trajectory
    recipe: Recipe
    task: Task
    trained: list[str]
    held: list[str]
    schedule: Schedule
    order: torch.Tensor
    kept: frozenset[int]
    start: Path | None
    train: Arrays
    query: Arrays | None
    preprocessing: Preprocessing
    device: torch.device

    @property
    def total(self) -> int:
        """Steps of the run."""
        return len(self.order)

    def data(self, arrays: Arrays, tick: Callable[[int], None]) -> Data:
        return prepared(arrays, self.task, self.preprocessing, self.device, tick=tick)


def load(mine: Process, job_id: str) -> TrainJob:
    """The job, from what this process has at hand if it is the same one."""
    return at_hand(mine, job_id, lambda session: _load(mine, session, job_id))


def _load(mine: Process, session: Session, job_id: str) -> TrainJob:
    return of_record(mine, session, session.get_one(tables.Job, job_id))


def of_record(mine: Process, session: Session, record: tables.Job) -> TrainJob:
    """What the record asks to train; it may be one that is not stored."""
    asked: dict[str, Any] = record.request or {}
    described = _described(session, record)
    arrays = {
        one: Arrays(session, mine.blobs, session.get_one(tables.Dataset, one))
        for one in (record.train_dataset_id, record.query_dataset_id)
        if one is not None
    }
    train = arrays[record.train_dataset_id or ""]
    recipe, total = Recipe.model_validate(asked["recipe"]), int(asked["total_steps"])
    checkpoints = trajectories.in_order(session, record.checkpoint_ids)
    rates = recipe.rates(total) or rates_of(described, checkpoints, len(train), total)
    device = pick_device(mine.settings.device)
    # on the CPU, whose generator draws the same numbers whatever the device is
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked["seed"] or 0)
        network = network_of(session, mine.blobs, described, torch.device("cpu"), initial=True).to(device)
    start = next((one.blob for one in checkpoints if one.id == asked["start"]), None)
    return TrainJob(
        id=record.id,
        described=described,
        recipe=recipe,
        task=task_of(described, network),
        trained=[name for name, _ in network.named_parameters()],
        held=list(expected_tensors(network).buffers),
        schedule=schedule_of(asked["recipe"]["optimizer"], (total,), (tuple(rates),), total, len(train)),
        order=loader_order(
            len(train), recipe.batch_size, total, recipe.seed or 0, drop_last=recipe.drop_last
        ),
        kept=frozenset(asked["checkpoints"]),
        start=mine.blobs.path(session, start) if start is not None else None,
        train=train,
        query=arrays.get(record.query_dataset_id or ""),
        preprocessing=preprocessing_of(described),
        device=device,
    )


def _described(session: Session, record: tables.Job) -> tables.Trajectory:
    """The trajectory that the job was told by; where there is none, one that is no record."""
    if record.trajectory_id is not None:
        return session.get_one(tables.Trajectory, record.trajectory_id)
    asked = record.request or {}
    return tables.Trajectory(**{name: asked[name] for name in ("architecture", "task", "preprocessing")})


def write_tensors(params: Tensors, held: Tensors, path: Path) -> None:
    """Writes a checkpoint in canonical form: parameters first, then buffers."""
    save_file({name: t.contiguous().cpu() for name, t in {**params, **held}.items()}, path)


def write_memory(state: State, path: Path) -> None:
    """Writes what the optimizer carries, as checkpoints have it."""
    flat = {f"{kind}.{name}": t for kind, part in state.memory.items() for name, t in part.items()}
    save_file({name: t.contiguous().cpu() for name, t in flat.items()}, path)


def read_tensors(job: TrainJob, path: Path) -> tuple[Tensors, Tensors]:
    """What a checkpoint holds: (what is trained, in the network's order; the rest), as float32."""
    found = {
        name: t.to(DTYPE) if t.is_floating_point() else t
        for name, t in load_file(path, device=str(job.device)).items()
    }
    params = {name: found.pop(name) for name in job.trained}
    return params, found


def read_state(mine: Process, session: Session, job: TrainJob, row: TrainingState) -> tuple[State, Tensors]:
    """A state of the job, and what the network has beside what is trained."""
    params, held = read_tensors(job, mine.blobs.path(session, row.blob))
    if row.optimizer_blob is None:
        return State(params, {}), held
    found = load_file(mine.blobs.path(session, row.optimizer_blob), device=str(job.device))
    memory = {kind: {name: found[f"{kind}.{name}"] for name in job.trained} for kind in carries(job.schedule)}
    return State(params, memory), held
