"""Diff-In over single steps, with each batch's own samples and curvature (README, "Exact steps")."""

from __future__ import annotations

import torch
from torch.func import grad

from worker.influence.directional import Differentiation, derivative
from worker.influence.errors import ensure_finite_rows
from worker.influence.memory import over_chunks
from worker.influence.replay import STATES_BYTES, backwards, batch_rows, replayed
from worker.influence.task import Task, Tensors
from worker.influence.training import State
from worker.influence.trajectory import Data, Schedule, Trajectory
from worker.influence.vectors import combine, norm

SLOPES = ""  # a name that no parameter has


def exact(
    task: Task,
    trajectory: Trajectory,
    k: int,
    train: Data,
    adjoint: dict[str, Tensors],
    first: int,
    *,
    chunk: int,
    how: Differentiation,
    epsilon: float,
    states_bytes: int = STATES_BYTES,
) -> tuple[torch.Tensor, dict[str, Tensors], dict[str, float]]:
    """The steps from `first` to checkpoint k, last to first, replayed from a checkpoint before.

    With w and u what a small change of θ and of the optimizer's first moment b would do to the query loss, a
    step b ← μb + c(∇L_B(θ) + λθ), θ ← (1 - ηδ)θ - ηPb is undone as

        r = u - ηPw,  harmful(z) += (c/B)·Dℓ_z(θ_t)[r] for z ∈ B_t,  u ← μr,  w ← (1 - ηδ)w + c(H_B + λ)r.

    SGD: c = 1, P = 1. Adam: μ = β₁, c = 1 - β₁, and P = 1/((√v̂ + ε)(1 - β₁ᵗ)) as in the run, its own change
    with the gradients left out.

    Args:
        states_bytes: of the replayed states that are kept at a time.
        adjoint: {"w"} or {"w", "u"} after the last of these steps, over the parameters that count.

    Returns:
        contribution to each sample's score, float64 [N]; the adjoint before step `first`; notes: exact_steps,
        and replay_drift, how far from checkpoint k the replay ended, relative to the way from `first` to it.
    """
    schedule, checkpoint = trajectory.schedule, trajectory.checkpoints[k]
    w, last = adjoint["w"], checkpoint.step - 1
    u = adjoint.get("u") or {name: torch.zeros_like(part) for name, part in w.items()}
    keep, weigh = first_moment(schedule)
    coupled = 0.0 if schedule.decoupled else schedule.weight_decay
    decoupled = schedule.weight_decay - coupled
    contribution = torch.zeros(len(train), dtype=torch.float64)
    after = end = None
    for step, state in backwards(task, trajectory, train, k - 1, first, last, states_bytes=states_bytes):
        if after is None:
            after = end = replayed(task, trajectory, train, k - 1, state, step, step + 1)
        rate = schedule.rate(step)
        r = combine(u, -rate, preconditioned(w, after, schedule, step))
        params = {name: state.params[name] for name in w}
        held = checkpoint.buffers | {name: t for name, t in state.params.items() if name not in w}
        rows = batch_rows(trajectory, step)
        slopes, product = batch_product(task, params, held, train, rows, r, chunk, how, epsilon)
        contribution.index_add_(0, torch.tensor(rows), weigh / len(rows) * slopes)
        w = {
            name: (1 - rate * decoupled) * part + weigh * (product[name] / len(rows) + coupled * r[name])
            for name, part in w.items()
        }
        u = {name: keep * part for name, part in r.items()}
        after = state
    ensure_finite_rows("The contribution to the score", checkpoint.step, contribution)
    assert after is not None and end is not None  # noqa: S101  (there is at least one step)
    way = norm({name: checkpoint.params[name] - after.params[name] for name in w})
    off = norm({name: checkpoint.params[name] - end.params[name] for name in w})
    drift = float(off / way.clamp(min=torch.finfo(way.dtype).tiny))
    notes = {"exact_steps": float(last + 1 - first), "replay_drift": drift}
    return contribution, {"w": w, "u": u} if keep else {"w": w}, notes


def first_moment(schedule: Schedule) -> tuple[float, float]:
    """(μ, c) of b ← μb + c·g."""
    if schedule.optimizer == "sgd":
        return schedule.momentum, 1.0
    return schedule.betas[0], 1 - schedule.betas[0]


def preconditioned(w: Tensors, after: State, schedule: Schedule, step: int) -> Tensors:
    """P w, with the second moment as it was after `step`."""
    if schedule.optimizer == "sgd":
        return w
    first, second = (1 - beta ** (step + 1) for beta in schedule.betas)
    squares = after.memory["exp_avg_sq"]
    return {
        name: part / (((squares[name] / second).sqrt() + schedule.eps) * first) for name, part in w.items()
    }


def batch_product(
    task: Task,
    params: Tensors,
    held: Tensors,
    train: Data,
    rows: list[int],
    direction: Tensors,
    chunk: int,
    how: Differentiation,
    epsilon: float,
) -> tuple[torch.Tensor, Tensors]:
    """(Dℓ_z[r] of each row, float64 on the CPU; Σ_z H_z r), both from one derivative of the gradient."""
    batch = task.of_batch(len(rows))

    def part(inputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
        def losses(params: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
            outputs = batch.outputs(params, held, inputs, targets)
            each, shares = batch.losses_and_shares(outputs, targets)
            return each.sum(), shares

        def gradient(params: Tensors) -> Tensors:
            slope, shares = grad(losses, has_aux=True)(params)
            return {**slope, SLOPES: shares}

        return derivative(gradient, params, direction, how, epsilon)

    total: Tensors = {}
    slopes: list[torch.Tensor] = []
    for found in over_chunks(part, train, chunk, rows, batch.group):
        slopes.append(found.pop(SLOPES).double().cpu())
        total = combine(total, 1.0, found) if total else found
    return torch.cat(slopes), total
