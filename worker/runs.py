"""Stored trajectories as the engine takes them: checkpoints read when asked for, and the batch order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from safetensors.torch import load_file
from sqlalchemy.orm import Session

from app.store import tables
from app.store.blobs import BlobStore
from app.store.trajectories import order_source
from worker.influence.order import loader_order
from worker.influence.task import Tensors
from worker.influence.trajectory import Checkpoint, Schedule, Trajectory

DTYPE = torch.float32


@dataclass(frozen=True)
class Names:
    """The network's parameters in its own order, since transforms compare the order of keys too.

    Attributes:
        trained: all of them.
        measured: those that influence is measured on.
    """

    trained: list[str]
    measured: list[str]


def read_run(
    session: Session,
    blobs: BlobStore,
    trajectory: tables.Trajectory,
    rows: Sequence[tables.Checkpoint],
    num_train: int,
    names: Names,
    device: torch.device,
    recent: Callable[[Checkpoints, int], Checkpoint],
    *,
    ordered: bool,
) -> Trajectory:
    """A trajectory with the checkpoints `rows`, by step.

    Args:
        num_train: samples of the training set that is scored.
        recent: as `Checkpoints` takes it.
        ordered: whether the batch order is wanted, where it is known.
    """
    schedule = _schedule(trajectory, rows, num_train)
    paths = [
        (
            blobs.path(session, row.blob or ""),
            blobs.path(session, row.optimizer_blob) if row.optimizer_blob else None,
        )
        for row in rows
    ]
    order = _order(session, blobs, trajectory, schedule, num_train) if ordered else None
    return Trajectory(Checkpoints(paths, schedule, names, device, recent), schedule, order)


class Checkpoints(Sequence[Checkpoint]):
    """Checkpoints, by step, as files of tensors and of optimizer state, read when they are asked for.

    Args:
        recent: `load`, or what remembers the last that it loaded, of several runs together.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, Path | None]],
        schedule: Schedule,
        names: Names,
        device: torch.device,
        recent: Callable[[Checkpoints, int], Checkpoint],
    ) -> None:
        self._files, self._schedule, self._names, self._device = files, schedule, names, device
        self._recent = recent

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, k: int) -> Checkpoint: ...
    @overload
    def __getitem__(self, k: slice) -> Sequence[Checkpoint]: ...
    def __getitem__(self, k: int | slice) -> Checkpoint | Sequence[Checkpoint]:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        return self._recent(self, range(len(self))[k])

    def load(self, k: int) -> Checkpoint:
        """Checkpoint k, read from its files."""
        path, state = self._files[k]
        tensors = {
            name: t.to(DTYPE) if t.is_floating_point() else t
            for name, t in load_file(path, device=str(self._device)).items()
        }
        measured = {name: tensors[name] for name in self._names.measured}
        frozen = [name for name in self._names.trained if name not in measured]
        held = [name for name in tensors if name not in measured and name not in frozen]
        return Checkpoint(
            step=self._schedule.steps[k],
            learning_rates=self._schedule.learning_rates[k],
            params=measured,
            buffers={name: tensors[name] for name in [*frozen, *held]},
            state=self._state(state) if state else {},
            frozen=frozenset(frozen),
        )

    def _state(self, path: Path) -> dict[str, Tensors]:
        found: dict[str, Tensors] = {}
        for name, tensor in load_file(path, device=str(self._device)).items():
            kind, _, parameter = name.partition(".")
            found.setdefault(kind, {})[parameter] = tensor.to(DTYPE)
        return {kind: {name: part[name] for name in self._names.trained} for kind, part in found.items()}


def schedule_of(
    optimizer: Mapping[str, Any],
    steps: tuple[int, ...],
    learning_rates: tuple[tuple[float, ...], ...],
    total_steps: int | None,
    train_size: int,
) -> Schedule:
    """The schedule of a run whose optimizer the catalog's `Optimizer` describes."""
    return Schedule(
        steps=steps,
        learning_rates=learning_rates,
        total_steps=total_steps,
        train_size=train_size,
        momentum=optimizer.get("momentum", 0.0),
        weight_decay=optimizer.get("weight_decay", 0.0),
        decoupled=optimizer["name"] == "adamw",
        optimizer=optimizer["name"],
        betas=tuple(optimizer.get("betas") or Schedule.betas),
        eps=optimizer.get("eps") or Schedule.eps,
    )


def rates_of(
    trajectory: tables.Trajectory, rows: Sequence[tables.Checkpoint], num_train: int, total: int
) -> list[float]:
    """The learning rates of the first `total` steps, as the checkpoints `rows` tell them."""
    schedule = _schedule(trajectory, rows, num_train)
    return [schedule.rate(step) for step in range(total)]


def _schedule(trajectory: tables.Trajectory, rows: Sequence[tables.Checkpoint], num_train: int) -> Schedule:
    steps = [row.step for row in rows]
    return schedule_of(
        trajectory.optimizer,
        tuple(steps),
        tuple(
            tuple(row.learning_rates or [row.learning_rate] * (row.step - start))
            for row, start in zip(rows, [0, *steps], strict=False)
        ),
        trajectory.total_steps,
        trajectory.train_size or num_train,
    )


def _order(
    session: Session, blobs: BlobStore, trajectory: tables.Trajectory, schedule: Schedule, num_train: int
) -> torch.Tensor | None:
    source, order, recipe = order_source(trajectory, num_train), trajectory.batch_order, trajectory.recipe
    if source == "file" and order is not None:
        steps = np.load(blobs.path(session, order.blob or ""), mmap_mode="r", allow_pickle=False)
        return torch.from_numpy(np.array(steps[: schedule.steps[-1]]))
    if source == "seed" and recipe is not None:
        drop_last = recipe.get("drop_last", False)
        steps, size = schedule.steps[-1], recipe["batch_size"]
        return loader_order(num_train, size, steps, recipe["seed"], drop_last=drop_last)
    return None
