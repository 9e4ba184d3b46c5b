"""The states of a run between its checkpoints, replayed by the optimizer that trained it.

With the batch order, a checkpoint and what the optimizer carried there, the steps that follow are the steps
of the training run, bit for bit where they run on a machine like its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from worker.influence.order import UNUSED
from worker.influence.task import Task
from worker.influence.training import State, carries, rows_of, steps
from worker.influence.trajectory import Checkpoint, Data, Schedule, Trajectory

STATES_BYTES = 1 << 30  # of the states kept at a time, unless told otherwise


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
    return rows_of(trajectory.order, step)


def replayed(
    task: Task, trajectory: Trajectory, train: Data, k: int, state: State, start: int, stop: int
) -> State:
    """The state before step `stop`, from the one before step `start`; k: whose buffers hold."""
    assert trajectory.order is not None  # noqa: S101  (else nothing is replayed)
    checkpoint = trajectory.checkpoints[k]
    held = {name: t for name, t in checkpoint.buffers.items() if name not in checkpoint.frozen}
    for done in steps(task, trajectory.schedule, trajectory.order, train, state, held, start, stop):
        state = done.state
    return state


def backwards(
    task: Task,
    trajectory: Trajectory,
    train: Data,
    k: int,
    first: int,
    last: int,
    *,
    states_bytes: int = STATES_BYTES,
) -> Iterator[tuple[int, State]]:
    """(t, the state before step t) for t = last, last - 1 … first, replayed from checkpoint k or before it.

    No more than `states_bytes` of states are kept at a time: longer stretches are cut into pieces, and each
    is replayed when its turn comes. Two states for each time the stretch is halved are the fewest.
    """
    schedule = trajectory.schedule
    while not can_start(trajectory.checkpoints[k], schedule):
        k -= 1
    state, step = state_of(trajectory.checkpoints[k], schedule), schedule.steps[k]
    size = sum(t.nbytes for part in (state.params, *state.memory.values()) for t in part.values())
    slots = _slots(last + 1 - first, states_bytes // max(1, size))

    def walk(state: State, start: int, stop: int) -> Iterator[tuple[int, State]]:
        stride = -(-(stop - start) // slots)
        marks = [(start, state)]
        while marks[-1][0] + stride < stop:
            at, latest = marks[-1]
            marks.append((at + stride, replayed(task, trajectory, train, k, latest, at, at + stride)))
        while marks:
            at, latest = marks.pop()
            if stride == 1:
                yield at, latest
            else:
                yield from walk(latest, at, min(at + stride, stop))

    return walk(replayed(task, trajectory, train, k, state, step, first), first, last + 1)


def _slots(stretch: int, most: int) -> int:
    """How many states to keep of a stretch, and again of each piece between two of them, down to single
    steps, so that they are no more than `most` altogether."""
    levels = 1
    while (slots := most // levels) > 2 and slots**levels < stretch:
        levels += 1
    return max(2, slots)


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
