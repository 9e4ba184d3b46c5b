"""The influence function at the last checkpoint: one damped Newton step (README, "Influence function")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from worker.influence.diff_in import curvature_rows
from worker.influence.directional import directional_derivative, ggn_vp, gradient
from worker.influence.errors import ensure_finite_vector
from worker.influence.pieces import Chunk, Options, Sweep, plain_losses, query_of, read
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Data, Trajectory
from worker.influence.vectors import flatten, unflatten


@dataclass(frozen=True)
class InfluenceFunctionOptions:
    """Options of `influence_function`.

    Attributes:
        damping: δ, added to the Gauss-Newton matrix beside coupled weight decay.
        cg_steps: of conjugate gradients, at most; they end where the residual is 1e-6 of ∇L_V.
        hessian_samples: training samples the matrix is averaged over; None: all.
    """

    damping: float = 0.01
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
    """x = (C + δI)⁻¹ ∇L_V at the last checkpoint, C the Gauss-Newton matrix; nothing at the others.

    Returns:
        vectors {"x"} or {}; notes cg_steps and cg_residual, ‖(C + δI)x - ∇L_V‖/‖∇L_V‖.
    """
    o = read(InfluenceFunctionOptions, options)
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    if k < len(schedule.steps) - 1:
        return Sweep({})
    v = gradient(task, checkpoint, query_of(query), chunk=chunk)
    ensure_finite_vector("The gradient of the query loss", checkpoint.step, v)
    rows = curvature_rows(len(train), o.hessian_samples, seed, task.group)
    ridge = o.damping + (0.0 if schedule.decoupled else schedule.weight_decay)

    def product(flat: torch.Tensor) -> torch.Tensor:
        image = ggn_vp(task, checkpoint, train, unflatten(flat, v), chunk=chunk, rows=rows)
        ensure_finite_vector("A product with the curvature", checkpoint.step, image)
        return flatten(image) + ridge * flat

    x, steps, residual = conjugate_gradients(product, flatten(v), o.cg_steps)
    notes = {"cg_steps": float(steps), "cg_residual": residual}
    return Sweep({"x": unflatten(x, v)}, notes=notes).checked(checkpoint.step)


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
    """-⟨∇L_V, (C + δI)⁻¹ G_z⟩/N at the last checkpoint, 0 at the others.

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
