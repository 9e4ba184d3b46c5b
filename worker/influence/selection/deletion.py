"""A run's last weights without some of its samples, by the influence on its parameters.

With I_t = θ_t^{-S} - θ_t, the samples S taken out of their batches and the batches' divisors kept,

    I_{t+1} - I_t = (η_t/B) Σ_{z ∈ S∩B_t} G_z(θ_t) - η_t H_{B_t∖S} I_t,   I_0 = 0,

so that θ_T + I_T is where the run would have ended. The curvature is that of the samples that are left: what
they do to one another's influence is the group effect. Over a segment, forwards, I ← ψ(C_k) I + φ(C_k) g_k
with g_k = (1/N) Σ_{z∈S} G_z(θ_k) and the φ and ψ of `lanczos.phi_psi`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from worker.influence.diff_in import DiffInOptions, exact_from, root_of_preconditioner, segment
from worker.influence.directional import gradient
from worker.influence.errors import ensure_finite_vector
from worker.influence.exact import batch_product, first_moment, preconditioned
from worker.influence.pieces import Options, read
from worker.influence.replay import batch_rows, can_start, check_order, replayed, state_of
from worker.influence.selection.parts import Part
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Data, Trajectory
from worker.influence.vectors import combine, flatten, unflatten


class Moved(NamedTuple):
    """I_T over the parameters that count, and how many steps were taken one by one."""

    params: Tensors
    exact_steps: int


def influence_on_parameters(
    task: Task,
    trajectory: Trajectory,
    train: Data,
    removed: Sequence[int],
    *,
    seed: int,
    chunk: int,
    options: Options,
    group: bool = True,
    tick: Callable[[float], None] = lambda checkpoints: None,
) -> Moved:
    """I_T of removing these rows of `train` together.

    Args:
        options: of `diff_in` (`DiffInOptions`).
        group: whether the curvature is that of the samples left; else of all, which makes I_T the sum of the
            single samples' and -⟨∇L_V(θ_T), I_T⟩ the sum of their scores.
        tick: told of each checkpoint that is done.

    Raises:
        NonFiniteError: I_t is NaN or infinite.
    """
    o, schedule = read(DiffInOptions, options), trajectory.schedule
    check_order(trajectory, len(train))
    start = exact_from(trajectory, o)
    gone = frozenset(removed)
    params = trajectory.checkpoints[0].params
    moved = {name: torch.zeros_like(part) for name, part in params.items()}
    speed, taken = dict(moved), 0
    for k, step in enumerate(schedule.steps):
        if schedule.rates(k, o.checkpoint_position, start) or start is None:
            moved = _over_segment(task, trajectory, k, train, gone, moved, start, group, seed, chunk, o)
        first = None if start is None or k == 0 else max(start, schedule.steps[k - 1])
        if first is not None and first < step:
            moved, speed = _over_steps(
                task,
                trajectory,
                k,
                train,
                gone if group else frozenset(),
                removed,
                moved,
                speed,
                first,
                chunk,
                o,
            )
            taken += step - first
        ensure_finite_vector("The influence on the parameters", step, moved)
        tick(1)
    return Moved(moved, taken)


def _over_segment(
    task: Task,
    trajectory: Trajectory,
    k: int,
    train: Data,
    gone: frozenset[int],
    moved: Tensors,
    until: int | None,
    group: bool,
    seed: int,
    chunk: int,
    o: DiffInOptions,
) -> Tensors:
    """ψ I + φ g over the steps that checkpoint k stands for.

    Both come from the adjoint's functions: with Adam's preconditioner P, I ← P ψ' P⁻¹ I, where ψ' is what
    carries w back.
    """
    checkpoint, size = trajectory.checkpoints[k], trajectory.schedule.train_size
    own = gradient(task, checkpoint, train, chunk=chunk, rows=sorted(gone))
    own = {name: part * (len(gone) / size) for name, part in own.items()}
    left, share = train, 1.0
    if group:
        left, share = Part(train, [row for row in range(len(train)) if row not in gone]), 1 - len(gone) / size
    added, _, _ = segment(task, trajectory, k, left, own, until, seed=seed, chunk=chunk, o=o, share=share)
    if not any(bool(part.any()) for part in moved.values()):
        return added
    squared = root_of_preconditioner(trajectory, k, moved) ** 2
    inner = unflatten(flatten(moved) / squared, moved)
    _, back, _ = segment(task, trajectory, k, left, inner, until, seed=seed, chunk=chunk, o=o, share=share)
    return combine(unflatten(squared * flatten(back), moved), 1.0, added)


def _over_steps(
    task: Task,
    trajectory: Trajectory,
    k: int,
    train: Data,
    outside: frozenset[int],
    removed: Sequence[int],
    moved: Tensors,
    speed: Tensors,
    first: int,
    chunk: int,
    o: DiffInOptions,
) -> tuple[Tensors, Tensors]:
    """(I, J) after the steps from `first` to checkpoint k, J what the optimizer's first moment b moves by.

    A step b ← μb + c(∇L_B + λθ), θ ← (1 - ηδ)θ - ηPb moves both by

        J ← μJ + c(H_{B∖S} I + λI - (1/B) Σ_{z∈S∩B} G_z),   I ← (1 - ηδ) I - ηP J.

    Args:
        outside: rows whose curvature does not count.
    """
    schedule, checkpoint = trajectory.schedule, trajectory.checkpoints[k]
    keep, weigh = first_moment(schedule)
    coupled = 0.0 if schedule.decoupled else schedule.weight_decay
    decoupled = schedule.weight_decay - coupled
    held_in, gone = checkpoint.buffers, frozenset(removed)
    at = k - 1
    while not can_start(trajectory.checkpoints[at], schedule):
        at -= 1
    state = state_of(trajectory.checkpoints[at], schedule)
    state = replayed(task, trajectory, train, at, state, schedule.steps[at], first)
    for step in range(first, checkpoint.step):
        after = replayed(task, trajectory, train, k - 1, state, step, step + 1)
        params = {name: state.params[name] for name in moved}
        held = held_in | {name: t for name, t in state.params.items() if name not in moved}
        rows, rate = batch_rows(trajectory, step), schedule.rate(step)
        push = {name: coupled * part for name, part in moved.items()}
        if left := [row for row in rows if row not in outside]:
            _, product = batch_product(task, params, held, train, left, moved, chunk, o.hvp, o.epsilon)
            push = combine(push, 1 / len(rows), product)
        if taken := [row for row in rows if row in gone]:
            here = Checkpoint(step, (), params, held)
            slope = gradient(task, here, train, chunk=chunk, rows=taken)
            push = combine(push, -len(taken) / len(rows), slope)
        speed = {name: keep * part + weigh * push[name] for name, part in speed.items()}
        step_by = preconditioned(speed, after, schedule, step)
        moved = {name: (1 - rate * decoupled) * p - rate * step_by[name] for name, p in moved.items()}
        state = after
    return moved, speed
