"""The states of a run between its checkpoints, replayed by the optimizer that trained it.

With the batch order, a checkpoint and what the optimizer carried there, the steps that follow are the steps
of the training run, bit for bit where they run on a machine like its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from worker.influence.order import UNUSED
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Data, Schedule, Trajectory

STATES_BYTES = 1 << 30  # of the states kept at a time; beyond it they are replayed again


@dataclass(frozen=True)
class State:
    """θ_t before step t, with all that was trained, and what the optimizer carries (`Checkpoint.state`)."""

    params: Tensors
    memory: dict[str, Tensors]


def carries(schedule: Schedule) -> tuple[str, ...]:
    """What the run's optimizer carries from step to step, by torch's names."""
    if schedule.optimizer != "sgd":
        return ("exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if schedule.momentum else ()


def can_start(checkpoint: Checkpoint, schedule: Schedule) -> bool:
    """Whether the steps after `checkpoint` can be replayed: all that the optimizer carried is known there."""
    return checkpoint.step == 0 or all(name in checkpoint.state for name in carries(schedule))


def state_of(checkpoint: Checkpoint, schedule: Schedule) -> State:
    """The state to replay from; nothing is carried into step 0."""
    trained = {name: t for name, t in checkpoint.buffers.items() if name in checkpoint.frozen}
    memory = {} if checkpoint.step == 0 else {name: checkpoint.state[name] for name in carries(schedule)}
    return State(checkpoint.params | trained, memory)


def batch_rows(trajectory: Trajectory, step: int) -> list[int]:
    """Rows of the training set in the batch of `step`."""
    assert trajectory.order is not None  # noqa: S101  (else nothing is replayed)
    rows: list[int] = [row for row in trajectory.order[step].tolist() if row != UNUSED]
    return rows


def advance(task: Task, trajectory: Trajectory, train: Data, k: int, state: State, step: int) -> State:
    """The state after `step`, from the one before it, by torch's own optimizer; k: whose buffers hold."""
    schedule, rows = trajectory.schedule, batch_rows(trajectory, step)
    checkpoint = trajectory.checkpoints[k]
    held = {name: t for name, t in checkpoint.buffers.items() if name not in checkpoint.frozen}
    leaves = {name: t.detach().clone().requires_grad_() for name, t in state.params.items()}
    [(inputs, targets)] = train.chunks(len(rows), rows)
    with torch.enable_grad():
        outputs = task.of_batch(len(rows)).call({**leaves, **held}, inputs, targets)
        loss = task.losses_of(outputs, targets).mean()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
    optimizer = _optimizer(schedule, list(leaves.values()), schedule.rate(step))
    for name, leaf in leaves.items():
        if state.memory:
            optimizer.state[leaf] = {kind: part[name].clone() for kind, part in state.memory.items()}
            if schedule.optimizer != "sgd":
                optimizer.state[leaf]["step"] = torch.tensor(float(step))
    for leaf, gradient in zip(leaves.values(), gradients, strict=True):
        leaf.grad = gradient
    optimizer.step()
    memory = {
        kind: {name: optimizer.state[leaf][kind] for name, leaf in leaves.items()}
        for kind in carries(schedule)
    }
    return State({name: leaf.detach() for name, leaf in leaves.items()}, memory)


def backwards(
    task: Task, trajectory: Trajectory, train: Data, k: int, first: int, last: int
) -> Iterator[tuple[int, State]]:
    """(t, the state before step t) for t = last, last - 1 … first, replayed from checkpoint k or before it.

    No more than `STATES_BYTES` of states are kept at a time: longer stretches are cut into pieces, and each
    is replayed when its turn comes.
    """
    schedule = trajectory.schedule
    while not can_start(trajectory.checkpoints[k], schedule):
        k -= 1
    state, step = state_of(trajectory.checkpoints[k], schedule), schedule.steps[k]
    size = sum(t.nbytes for part in (state.params, *state.memory.values()) for t in part.values())
    slots = max(2, STATES_BYTES // max(1, size))

    def forward(state: State, start: int, stop: int) -> State:
        for t in range(start, stop):
            state = advance(task, trajectory, train, k, state, t)
        return state

    def walk(state: State, start: int, stop: int) -> Iterator[tuple[int, State]]:
        stride = -(-(stop - start) // slots)
        marks = [(start, state)]
        while marks[-1][0] + stride < stop:
            at, latest = marks[-1]
            marks.append((at + stride, forward(latest, at, at + stride)))
        while marks:
            at, latest = marks.pop()
            if stride == 1:
                yield at, latest
            else:
                yield from walk(latest, at, min(at + stride, stop))

    return walk(forward(state, step, first), first, last + 1)


def first_replayable(trajectory: Trajectory) -> int | None:
    """The first step that can be replayed; None where none can, or the batch order is unknown."""
    if trajectory.order is None:
        return None
    schedule = trajectory.schedule
    if not carries(schedule) or schedule.steps[0] == 0:
        return schedule.steps[0]
    starts = (c.step for c in trajectory.checkpoints if can_start(c, schedule))
    return next(starts, None)


def check_order(trajectory: Trajectory, population: int) -> None:
    """Raises ValueError where the order does not fit the run or a training set of `population` samples."""
    order, steps = trajectory.order, trajectory.schedule.steps[-1]
    if order is None:
        return
    if order.dim() != 2 or len(order) < steps:
        raise ValueError(f"The batch order is {tuple(order.shape)}; the last checkpoint is at step {steps}")
    used = order[:steps]
    if int(used.max()) >= population or int(used.min()) < UNUSED:
        raise ValueError(f"The batch order names rows beyond the training set's {population} samples")
    empty = (used == UNUSED).all(1)
    if empty.any():
        raise ValueError(f"The batch order has no sample in step {int(empty.nonzero()[0, 0])}")


def _optimizer(schedule: Schedule, leaves: Sequence[torch.Tensor], rate: float) -> torch.optim.Optimizer:
    how: dict[str, Any] = {"lr": rate, "weight_decay": schedule.weight_decay}
    if schedule.optimizer == "sgd":
        if schedule.decoupled and schedule.weight_decay:
            raise ValueError("SGD with decoupled weight decay is none of torch's: it can't be replayed")
        return torch.optim.SGD(leaves, momentum=schedule.momentum, **how)
    kind = torch.optim.AdamW if schedule.decoupled else torch.optim.Adam
    return cast(torch.optim.Optimizer, kind(leaves, betas=schedule.betas, eps=schedule.eps, **how))
