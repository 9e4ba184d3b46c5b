"""What is retrained to hold scores against, in groups of runs, and whether a recorded run comes out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple

import numpy as np
import torch

from worker.influence.agreement import Floats
from worker.influence.memory import over_chunks
from worker.influence.replay import replayed, state_of
from worker.influence.retraining import (
    AT_ONCE,
    as_dtype,
    as_dtypes,
    halves,
    in_dtype,
    reordered,
    repeated,
    retrain,
    takes_step,
    without,
)
from worker.influence.task import Task, Tensors
from worker.influence.training import optimizer_of
from worker.influence.trajectory import Checkpoint, Data, Trajectory

Kind = Literal["rounding", "without", "subsets"]

ROUNDING = 2  # runs whose batches are added up in another order each
REPRODUCED = 0.01  # of the way from the start: rounding alone stays far below, unless a run is chaotic


class Group(NamedTuple):
    """Retrainings that are done side by side.

    Attributes:
        kind: "rounding", the whole set with batches added up in other orders; "without", run 0 with the
            whole set, run i without the i-th of those left out; "subsets".
        order: which batch order they are trained in.
        start, stop: which of that kind's runs.
    """

    kind: Kind
    order: int
    start: int
    stop: int

    @property
    def runs(self) -> range:
        """The numbers of its runs."""
        return range(self.start, self.stop)


def groups(removed: int, subsets: int, orders: int, at_once: int) -> list[Group]:
    """All retrainings of a trial, `at_once` of them at most in a group."""
    found = [Group("rounding", 0, 0, ROUNDING)]
    runs: dict[Kind, int] = {"without": 1 + removed, "subsets": subsets}
    for order in range(orders):
        for kind, total in runs.items():
            for start in range(0, total, at_once):
                found.append(Group(kind, order, start, min(start + at_once, total)))
    return found


@dataclass(frozen=True)
class Trial:
    """What is retrained, and how.

    Attributes:
        trajectory: the recorded run, from its initial state (step 0) on.
        orders: batch orders, int64 [T, B] each: the run's own, or k others.
        removed: rows that are left out, and `stands_for` how many samples each stands for.
        subsets: how many random halves, drawn by `seed`.
        dtype: retraining is computed in it: differences between runs are small against float32's rounding.
        batched: side by side by vmap, or one run after the other.
    """

    task: Task
    trajectory: Trajectory
    train: Data
    query: Data
    orders: Sequence[torch.Tensor]
    removed: Sequence[int]
    stands_for: Sequence[float]
    subsets: int = 0
    seed: int = 0
    dtype: torch.dtype = torch.float64
    batched: bool = True
    at_once: int = AT_ONCE

    @cached_property
    def groups(self) -> list[Group]:
        """All retrainings; runs of one group share their batches."""
        return groups(len(self.removed), self.subsets, len(self.orders), self.at_once)

    def run(self, group: Group, tick: Callable[[float], None] = lambda runs: None) -> Floats:
        """Mean query loss at the end of each of the group's runs, float64 [R].

        Raises:
            SampleTooLargeError: not even one run fits into memory.
        """
        schedule, order = self.trajectory.schedule, self.orders[group.order]
        params, held = self._start
        if group.kind == "rounding":
            order = torch.stack([reordered(order, self.seed + run) for run in group.runs])
        losses = retrain(
            self._task,
            repeated(params, len(group.runs)),
            held,
            self.train,
            self.query,
            order=order,
            rates=[schedule.rate(step) for step in range(order.shape[-2])],
            kept=self._kept(group),
            divide_by_kept=group.kind == "subsets",
            optimizer=partial(optimizer_of, schedule, rate=0.0),
            at_once=self.at_once,
            batched=self.batched,
            tick=tick,
        )
        found: Floats = losses.double().mean(1).cpu().numpy()
        return found

    def _kept(self, group: Group) -> torch.Tensor | None:
        n, some = len(self.train), slice(group.start, group.stop)
        if group.kind == "rounding":
            return None
        if group.kind == "subsets":
            return self.halves[some]
        rows = [-1, *self.removed][some]  # no row is -1: the run with the whole set
        return without(rows, n)

    @cached_property
    def halves(self) -> torch.Tensor:
        """The subsets: bool [S, N]."""
        return halves(len(self.train), self.subsets, self.seed)

    def sums(self, scores: Floats) -> Floats:
        """What scores [N] predict of each half: the sum over its samples, [S]."""
        return np.array([scores[half.numpy()].sum() for half in self.halves], dtype=np.float64)

    @cached_property
    def _task(self) -> Task:
        return in_dtype(self.task, self.dtype)

    @cached_property
    def _start(self) -> tuple[Tensors, Tensors]:
        """(what is trained, what is held) at step 0, in `dtype`."""
        first = self.trajectory.checkpoints[0]
        trained = state_of(first, self.trajectory.schedule).params
        held = {name: t for name, t in first.buffers.items() if name not in trained}
        return as_dtypes(trained, self.dtype), as_dtypes(held, self.dtype)


def workable(task: Task, checkpoint: Checkpoint, data: Data) -> tuple[torch.dtype, bool]:
    """(dtype, whether runs train side by side): the best way in which this network can be retrained.

    float64 unless something in the network insists on float32; by vmap unless an operator refuses it.

    Raises:
        RuntimeError: in no way.
    """
    [(inputs, targets)] = data.chunks(2, range(min(2, len(data))))
    for dtype in (torch.float64, torch.float32):
        mine, x = in_dtype(task, dtype), as_dtype(inputs, dtype)
        params, buffers = as_dtypes(checkpoint.params, dtype), as_dtypes(checkpoint.buffers, dtype)
        for batched in (True, False):
            if takes_step(mine, params, buffers, x, targets, batched=batched):
                return dtype, batched
    raise RuntimeError("the network can't be trained again: no step of it succeeds")


@dataclass(frozen=True)
class Reproduced:
    """Whether the recorded run comes out again when nothing is removed.

    Attributes:
        drift: how far the end is from the recorded one, relative to the way there from the start.
        loss, recorded_loss: of the query set at either end.
    """

    drift: float
    loss: float
    recorded_loss: float

    @property
    def reproduces(self) -> bool:
        return self.drift <= REPRODUCED

    @property
    def difference(self) -> float:
        """Of the query loss."""
        return self.loss - self.recorded_loss


def reproduce(
    task: Task,
    trajectory: Trajectory,
    train: Data,
    query: Data,
    *,
    chunk: int,
    tick: Callable[[float], None] = lambda runs: None,
) -> Reproduced:
    """Replays the run from step 0 to its last checkpoint, in its own dtype, by the steps it was made of."""
    schedule, first, last = trajectory.schedule, trajectory.checkpoints[0], trajectory.checkpoints[-1]
    state = start = state_of(first, schedule)
    for step in range(last.step):
        state = replayed(task, trajectory, train, 0, state, step, step + 1)
        tick(1 / last.step)
    recorded = state_of(last, schedule).params
    off, way = (
        sum(float((recorded[name] - t).double().square().sum()) for name, t in other.params.items()) ** 0.5
        for other in (state, start)
    )
    held = {name: t for name, t in last.buffers.items() if name not in recorded}

    def loss(params: Tensors) -> float:
        parts = over_chunks(
            lambda x, y: task.losses(params, held, x, y).double().sum(), query, chunk, group=task.group
        )
        return float(sum(parts)) / len(query)

    return Reproduced(off / way if way else float(off > 0), loss(state.params), loss(recorded))
