"""An influence job as the engine wants it: task, runs and data, loaded from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from sqlalchemy.orm import Session

from app.catalog import METHODS as CATALOG
from app.catalog import Extent, Options, Parameters
from app.catalog.options import BATCH
from app.store import jobs, tables, trajectories, work
from app.store.datasets import Arrays
from worker.data import prepared, selected
from worker.influence.methods import METHODS, Method
from worker.influence.preprocessing import Preprocessing
from worker.influence.task import Task
from worker.influence.trajectory import Data, Trajectory
from worker.networks import network_of, preprocessing_of, task_of
from worker.problems import UserError
from worker.process import Process, at_hand
from worker.runs import Checkpoints, Names, read_run

STATES = 2  # one part in so many of what a worker may use: the states replayed between two checkpoints
KEPT = 2  # checkpoints, of all runs together, that are kept once read


class Place(NamedTuple):
    """Where a unit of work stands: in which repeat, of which trajectory, at which of its checkpoints."""

    repeat: int
    run: int
    k: int

    @classmethod
    def of(cls, payload: dict[str, Any]) -> Place:
        return cls(*(payload.get(name, 0) for name in cls._fields))

    @property
    def stage(self) -> str:
        """The stage of the sweep here."""
        return f"sweep:{self.repeat}.{self.run}.{self.k}"


@dataclass(frozen=True)
class InfluenceJob:
    """One job's inputs, read once and kept while this process works on it.

    Attributes:
        runs: the trajectories that are averaged, of these ids.
        states: what is known of the optimizer's state at each checkpoint of each run, by name.
        asked: the method's options as the job has them; `options` are those of the engine.
        batch_sizes: of each run; None where its trajectory does not say.
    """

    id: str
    seed: int
    method: Method
    options: dict[str, Any]
    asked: Options
    task: Task
    trajectory_ids: tuple[str, ...]
    runs: tuple[Trajectory, ...]
    states: tuple[tuple[tuple[str, ...], ...], ...]
    batch_sizes: tuple[int | None, ...]
    names: Names
    train: Arrays
    query: Arrays | None
    query_selection: dict[str, Any] | None
    preprocessing: Preprocessing
    device: torch.device

    def train_data(self, tick: Callable[[int], None]) -> Data:
        return self._data(self.train, None, tick)

    def query_data(self, tick: Callable[[int], None], only: int | None = None) -> Data | None:
        """The query samples that are asked about, or `only` this one of them."""
        if self.query is None:
            return None
        rows = selected(self.query, self.query_selection)
        if only is not None:
            rows = self.queries[only : only + 1]
        return self._data(self.query, rows, tick)

    @cached_property
    def queries(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Indices in the query data set of the samples that are asked about."""
        if self.query is None:
            return np.empty(0, dtype=np.int64)
        rows = selected(self.query, self.query_selection)
        return np.arange(len(self.query)) if rows is None else rows

    def places(self) -> Iterator[Place]:
        """Every place, repeat by repeat, run by run, checkpoint by checkpoint."""
        for repeat in range(self.asked.repeats):
            for run, trajectory in enumerate(self.runs):
                for k in range(len(trajectory.checkpoints)):
                    yield Place(repeat, run, k)

    def number(self, place: Place) -> int:
        """Which of all the runs' checkpoints it is, one run after the other."""
        return sum(len(run.checkpoints) for run in self.runs[: place.run]) + place.k

    def options_at(self, place: Place) -> dict[str, Any]:
        """The engine's options there, the run's batch size among them."""
        return self.options | {"batch_size": self.batch_sizes[place.run] or BATCH}

    @cached_property
    def extents(self) -> list[Extent]:
        """How much there is to do for each run, once."""
        return [
            Extent(
                num_train=len(self.train),
                num_query=len(self.queries),
                steps=run.schedule.steps,
                batch_size=batch_size or BATCH,
                ordered=run.order is not None,
            )
            for run, batch_size in zip(self.runs, self.batch_sizes, strict=True)
        ]

    def per_sample(self, place: Place) -> int:
        """Forward passes that a training sample takes there."""
        return self.asked.per_sample(self.extents[place.run], place.k)

    def shared(self, place: Place) -> int:
        """Forward passes for what all samples share there."""
        return self.asked.shared(self.extents[place.run], place.k)

    def _data(self, arrays: Arrays, rows: Any, tick: Callable[[int], None]) -> Data:
        return prepared(arrays, self.task, self.preprocessing, self.device, rows=rows, tick=tick)


def locked(session: Session, job_id: str) -> tables.Job:
    """The job's record, locked until the end of the transaction; LeaseLostError when it is gone."""
    record = jobs.locked(session, job_id)
    if record is None:
        raise work.LeaseLostError(job_id)
    return record


def finished(session: Session, mine: Process, job_id: str, lease: work.Lease) -> tables.Job | None:
    """The job's record, locked, its unit in hand finished; None where that settles its cancellation.

    Raises:
        LeaseLostError: the job is gone, or the unit somebody else's.
    """
    record = locked(session, job_id)
    work.finish(session, lease)
    if record.status != "cancelling":
        return record
    jobs.settle_cancelled(session, mine.blobs, record)
    return None


def load(mine: Process, job_id: str) -> InfluenceJob:
    """The job, from what this process has at hand if it is the same one.

    Raises:
        UserError: none of the network's tensors is meant.
    """
    return at_hand(mine, job_id, lambda session: _load(mine, session, job_id))


def _load(mine: Process, session: Session, job_id: str) -> InfluenceJob:
    job = session.get_one(tables.Job, job_id)
    assert job.method is not None  # noqa: S101  (an influence job has one)
    return scoring(mine, session, job, job.method)


def scoring(mine: Process, session: Session, job: tables.Job, method: dict[str, Any]) -> InfluenceJob:
    """What it takes to score the job's runs by `method`.

    Raises:
        UserError: none of the network's tensors is meant.
    """
    stored = [session.get_one(tables.Trajectory, one) for one in job.trajectory_ids]
    checkpoints = trajectories.in_order(session, job.checkpoint_ids)
    train = Arrays(session, mine.blobs, session.get_one(tables.Dataset, job.train_dataset_id))
    query = (
        Arrays(session, mine.blobs, session.get_one(tables.Dataset, job.query_dataset_id))
        if job.query_dataset_id
        else None
    )
    device = pick_device(mine.settings.device)
    network = network_of(session, mine.blobs, stored[0], device)
    asked = CATALOG[method["name"]].options.model_validate(method)
    names = _names([name for name, _ in network.named_parameters()], getattr(asked, "parameters", None))
    recent = lru_cache(maxsize=KEPT)(Checkpoints.load)
    rows = [[row for row in checkpoints if row.trajectory_id == one.id] for one in stored]
    return InfluenceJob(
        id=job.id,
        seed=job.seed,
        method=METHODS[method["name"]],
        options=asked.options() | ({"states_bytes": states_bytes(mine)} if asked.needs_order else {}),
        asked=asked,
        task=task_of(stored[0], network),
        trajectory_ids=tuple(job.trajectory_ids),
        runs=tuple(
            read_run(
                session, mine.blobs, one, part, len(train), names, device, recent, ordered=asked.needs_order
            )
            for one, part in zip(stored, rows, strict=True)
        ),
        states=tuple(
            tuple(tuple((row.optimizer_file or {}).get("state", ())) for row in part) for part in rows
        ),
        batch_sizes=tuple(one.batch_size for one in stored),
        names=names,
        train=train,
        query=query,
        query_selection=job.query,
        preprocessing=preprocessing_of(stored[0]),
        device=device,
    )


def states_bytes(mine: Process) -> int:
    """Of the states between two checkpoints that are kept at a time."""
    return mine.settings.memory_bytes // STATES


def _names(trained: list[str], parameters: Parameters | None) -> Names:
    measured = trained if parameters is None else parameters.of(trained)
    if not measured:
        raise UserError(
            "no_parameters",
            f"No tensor of the network is included and not excluded; its tensors: {', '.join(trained)}.",
        )
    return Names(trained, measured)


def pick_device(wanted: str) -> torch.device:
    """The device to compute on: CUDA when there is one, unless told otherwise."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)
