"""The influence function: one damped Newton step, at the last checkpoint or the mean over all of them
(README, "Influence function")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from worker.influence.diff_in import curvature_rows
from worker.influence.directional import directional_derivative, ggn_vp, gradient
from worker.influence.errors import ensure_finite_vector
from worker.influence.kronecker import kronecker
from worker.influence.pieces import Chunk, Options, Sweep, plain_losses, query_of, read
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Data, Schedule, Trajectory
from worker.influence.vectors import flatten, unflatten

DAMPING = 0.01  # of the Gauss-Newton matrix
SHARE = 1e-3  # of each tensor's mean eigenvalue, the damping of its Kronecker product


@dataclass(frozen=True)
class InfluenceFunctionOptions:
    """Options of `influence_function`.

    Attributes:
        checkpoints: "last", or the mean over "all" that were trained: what to expect of such a run, where one
            state alone tells of its own accidents.
        curvature: C, the Gauss-Newton matrix, or that one by `kronecker.kronecker`, without iterations.
        damping: δ, added to C beside coupled weight decay; None: `DAMPING`, with "kronecker" `SHARE` of each
            tensor's mean eigenvalue.
        cg_steps: of conjugate gradients, at most; they end where the residual is 1e-6 of ∇L_V.
        hessian_samples: training samples C is averaged over; None: all.
    """

    checkpoints: Literal["last", "all"] = "last"
    curvature: Literal["ggn", "kronecker"] = "ggn"
    damping: float | None = None
    cg_steps: int = 100
    hessian_samples: int | None = 1000


def sweep(
    task: Task,
    trajectory: Trajectory,
    k: int,
    train: Data,
    query: Data | None,
    carry: dict[str, Tensors] | None,
    *,
    seed: int,
    chunk: int,
    options: Options,
) -> Sweep:
    """x = (C + δI)⁻¹ ∇L_V, divided by how many checkpoints take part; nothing at those that do not.

    Returns:
        vectors {"x"} or {}; notes cg_steps and cg_residual, ‖(C + δI)x - ∇L_V‖/‖∇L_V‖, or lambda_max.
    """
    o = read(InfluenceFunctionOptions, options)
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    part = share(schedule, k, o)
    if not part:
        return Sweep({})
    v = gradient(task, checkpoint, query_of(query), chunk=chunk)
    ensure_finite_vector("The gradient of the query loss", checkpoint.step, v)
    if o.curvature == "kronecker":
        stacked = {name: tensor[None] for name, tensor in v.items()}
        solved, notes = kronecker_step(task, trajectory, k, train, stacked, seed=seed, chunk=chunk, o=o)
        x = {name: part * tensor[0] for name, tensor in solved.items()}
        return Sweep({"x": x}, notes=notes).checked(checkpoint.step)
    rows = curvature_rows(len(train), o.hessian_samples, seed, task.group)
    ridge = ggn_ridge(schedule, o)

    def product(flat: torch.Tensor) -> torch.Tensor:
        image = ggn_vp(task, checkpoint, train, unflatten(flat, v), chunk=chunk, rows=rows)
        ensure_finite_vector("A product with the curvature", checkpoint.step, image)
        return flatten(image) + ridge * flat

    flat, steps, residual = conjugate_gradients(product, flatten(v), o.cg_steps)
    notes = {"cg_steps": float(steps), "cg_residual": residual}
    return Sweep({"x": unflatten(part * flat, v)}, notes=notes).checked(checkpoint.step)


def share(schedule: Schedule, k: int, o: InfluenceFunctionOptions) -> float:
    """What checkpoint k counts for: 1/n of n that take part, 0 where it does not.

    The state before the first step has learnt nothing yet, and takes part only where there is no other.
    """
    last = len(schedule.steps) - 1
    if o.checkpoints == "last":
        return float(k == last)
    counted = [i for i, step in enumerate(schedule.steps) if step > 0] or [last]
    return (k in counted) / len(counted)


def ggn_ridge(schedule: Schedule, o: InfluenceFunctionOptions) -> float:
    """What stands on the diagonal beside the Gauss-Newton matrix: damping and coupled weight decay."""
    damping = DAMPING if o.damping is None else o.damping
    return damping + (0.0 if schedule.decoupled else schedule.weight_decay)


def kronecker_step(
    task: Task,
    trajectory: Trajectory,
    k: int,
    train: Data,
    vectors: Tensors,
    *,
    seed: int,
    chunk: int,
    o: InfluenceFunctionOptions,
) -> tuple[Tensors, dict[str, float]]:
    """((C + δI)⁻¹ v of each of `vectors` [K, …], notes), C the Kronecker product at checkpoint k."""
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    c = kronecker(
        task, checkpoint, train, chunk=chunk, rows=curvature_rows(len(train), o.hessian_samples, seed),
        seed=seed, ridge=0.0 if schedule.decoupled else schedule.weight_decay,
    )  # fmt: skip
    # directions that no sample moves have gradients and eigenvalues that are rounding alone
    rounding = torch.finfo(next(iter(vectors.values())).dtype).eps * c.largest

    def inverse(values: torch.Tensor) -> list[torch.Tensor]:
        damping = max(SHARE * float(values.mean()), rounding) if o.damping is None else o.damping
        return [1 / (values + damping)]

    [found] = c.apply(inverse, vectors)
    return found, {"lambda_max": c.largest}


def score_chunk(
    task: Task,
    trajectory: Trajectory,
    k: int,
    vectors: dict[str, Tensors],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    rows: Sequence[int] | range,
    *,
    options: Options,
) -> Chunk:
    """-⟨∇L_V, (C + δI)⁻¹ G_z⟩/N, the share of each checkpoint that takes part, 0 at the others.

    Source: Koh and Liang, arXiv 1703.04730, with the sign turned to positive = harmful.
    """
    checkpoint = trajectory.checkpoints[k]
    if "x" not in vectors:
        losses, predictions = plain_losses(task, checkpoint, inputs, targets)
        nothing = torch.zeros(len(losses), dtype=torch.float64, device=losses.device)
        return Chunk(nothing, losses, predictions).checked(checkpoint.step)
    found = directional_derivative(task, checkpoint, inputs, targets, vectors["x"])
    contribution = -found.derivatives.double() / trajectory.schedule.train_size
    return Chunk(contribution, found.losses, found.predictions).checked(checkpoint.step)


def conjugate_gradients(
    product: Callable[[torch.Tensor], torch.Tensor], b: torch.Tensor, steps: int, tolerance: float = 1e-6
) -> tuple[torch.Tensor, int, float]:
    """x with A x ≈ b for a positive definite A given by u ↦ A u.

    Source: Golub & Van Loan, Matrix Computations, 11.3.

    Returns:
        x [P], the steps taken, and ‖A x - b‖/‖b‖ as the recursion has it; 0 for b = 0.
    """
    x, r = torch.zeros_like(b), b
    direction, square, length = r, r @ r, float(b.norm())
    taken = 0
    while taken < steps and float(square.sqrt()) > tolerance * length:
        image = product(direction)
        step = square / (direction @ image)
        x, r = x + step * direction, r - step * image
        square, before = r @ r, square
        direction = r + square / before * direction
        taken += 1
    return x, taken, float(square.sqrt()) / length if length else 0.0
