"""Diff-In summed whole, by its adjoint, over the segments between checkpoints (README, "Diff-In")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from worker.influence.directional import (
    Differentiation,
    directional_derivative,
    ggn_vp,
    gradient,
    hvp,
)
from worker.influence.errors import ensure_finite_vector
from worker.influence.lanczos import lanczos, phi_psi
from worker.influence.pieces import Chunk, Options, Sweep, query_of, read
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Data, Position, Trajectory, draw_rows
from worker.influence.vectors import flatten, unflatten


@dataclass(frozen=True)
class DiffInOptions:
    """Options of `diff_in`.

    Attributes:
        resolution: "segments", the one there is; `tail` belongs to others.
        checkpoint_position: which steps a checkpoint stands for (`Schedule.rates`).
        curvature: C_k, the Hessian or the generalized Gauss-Newton matrix.
        hessian_samples: training samples C_k is averaged over, the same at all checkpoints; None: all.
        lanczos_steps: dimension of the Krylov space.
        clamp: hold each factor within 0 ≤ 1 - ηλ ≤ 1.
        hvp, epsilon: how products with C_k are computed (`directional.derivative`).
    """

    resolution: Literal["segments"] = "segments"
    tail: float = 0.25
    checkpoint_position: Position = "middle"
    curvature: Literal["hessian", "ggn"] = "hessian"
    hessian_samples: int | None = 1000
    lanczos_steps: int = 10
    clamp: bool = True
    hvp: Differentiation = "exact"
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if self.resolution != "segments":
            raise ValueError(f"resolution {self.resolution!r} is not there yet: only 'segments'")


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
    """s = φ(C_k) w, and w ← ψ(C_k) w for the segment before; w = ∇L_V(θ_T) at the last checkpoint.

    Returns:
        vectors {"s"}, carry w, notes lambda_max (largest Ritz value of C_k) and eta_lambda_max (times the
        segment's largest rate; near 2 training is unstable).
    """
    o = read(DiffInOptions, options)
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    last = k == len(schedule.steps) - 1
    if not last and carry is None:
        raise ValueError(f"The sweep at checkpoint {k} needs the carry of the one at checkpoint {k + 1}")
    w = gradient(task, checkpoint, query_of(query), chunk=chunk) if last or carry is None else carry["w"]
    ensure_finite_vector("The gradient of the query loss", checkpoint.step, w)
    rates, decays = schedule.rates(k, o.checkpoint_position), schedule.decays(k, o.checkpoint_position)
    ridge = 0.0 if schedule.decoupled else schedule.weight_decay
    multiply = partial(
        ggn_vp if o.curvature == "ggn" else hvp,
        task,
        checkpoint,
        train,
        chunk=chunk,
        rows=_curvature_rows(len(train), o.hessian_samples, seed),
        how=o.hvp,
        epsilon=o.epsilon,
    )

    def product(flat: torch.Tensor) -> torch.Tensor:
        image = multiply(unflatten(flat, w))
        ensure_finite_vector("A product with the curvature", checkpoint.step, image)
        return flatten(image) + ridge * flat

    krylov = lanczos(product, flatten(w), o.lanczos_steps)
    phi, psi = phi_psi(krylov.values, rates, decays, clamp=o.clamp)
    return Sweep(
        vectors={"s": unflatten(krylov.apply(phi), w)},
        carry={"w": unflatten(krylov.apply(psi), w)},
        notes={"lambda_max": krylov.largest, "eta_lambda_max": krylov.largest * max(rates, default=0.0)},
    ).checked(checkpoint.step)


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
    """harmful(z) -= Dℓ_z(θ_k)[s]/N."""
    checkpoint = trajectory.checkpoints[k]
    found = directional_derivative(task, checkpoint, inputs, targets, vectors["s"])
    contribution = -found.derivatives.double() / trajectory.schedule.train_size
    return Chunk(contribution, found.losses, found.predictions).checked(checkpoint.step)


def _curvature_rows(population: int, size: int | None, seed: int) -> list[int] | None:
    return None if size is None or size >= population else draw_rows(population, size, seed=seed)
