"""Diff-In summed whole, by its adjoint: over single steps where they can be replayed, over the segments
between checkpoints elsewhere (README, "Diff-In")."""

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
from worker.influence.exact import exact
from worker.influence.kronecker import kronecker
from worker.influence.lanczos import lanczos, phi_psi
from worker.influence.pieces import Chunk, Options, Sweep, plain_losses, query_of, read
from worker.influence.replay import STATES_BYTES, check_order, first_replayable
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Data, Position, Trajectory, draw_rows
from worker.influence.vectors import flatten, unflatten


@dataclass(frozen=True)
class DiffInOptions:
    """Options of `diff_in`.

    Attributes:
        resolution: "segments"; "steps", each step with the batch it had, where the order is known; "tail",
            so for the last share `tail` of the steps, segments before. Without an order all are segments.
        checkpoint_position: which steps a checkpoint stands for (`Schedule.rates`).
        curvature: C_k, the Hessian, the generalized Gauss-Newton matrix, or that one by an
            eigenvalue-corrected Kronecker product for each tensor (`kronecker.kronecker`), which takes no
            Lanczos steps.
        hessian_samples: training samples C_k is averaged over, the same at all checkpoints; None: all.
        lanczos_steps: dimension of the Krylov space.
        clamp: hold each factor within 0 ≤ 1 - ηλ ≤ 1.
        hvp, epsilon: how products with C_k are computed (`directional.derivative`).
        states_bytes: of the states between checkpoints that are kept at a time; beyond it they are replayed
            again.
    """

    resolution: Literal["segments", "steps", "tail"] = "segments"
    tail: float = 0.25
    checkpoint_position: Position = "middle"
    curvature: Literal["hessian", "ggn", "kronecker"] = "hessian"
    hessian_samples: int | None = 1000
    lanczos_steps: int = 10
    clamp: bool = True
    hvp: Differentiation = "exact"
    epsilon: float = 1e-3
    states_bytes: int = STATES_BYTES


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
    """The adjoint from the end of checkpoint k's steps to their start, and what it meets on the way.

    First the steps to checkpoint k that are taken one by one (`exact.exact`), then the rest of its segment:
    s = φ(C_k) w, w ← ψ(C_k) w. At the last checkpoint w = ∇L_V(θ_T).

    Returns:
        vectors {"s"} where there is a segment, {"exact": {"contribution": [N]}} where there are single steps;
        carry {"w"}, and {"u"} with momentum; notes lambda_max (largest Ritz value of C_k), eta_lambda_max
        (times the segment's largest rate; near 2 training is unstable), and those of `exact.exact`.
    """
    o = read(DiffInOptions, options)
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    last = k == len(schedule.steps) - 1
    if not last and carry is None:
        raise ValueError(f"The sweep at checkpoint {k} needs the carry of the one at checkpoint {k + 1}")
    check_order(trajectory, len(train))
    adjoint = carry or {"w": gradient(task, checkpoint, query_of(query), chunk=chunk)}
    ensure_finite_vector("The gradient of the query loss", checkpoint.step, adjoint["w"])
    vectors: dict[str, Tensors] = {}
    notes: dict[str, float] = {}
    start = exact_from(trajectory, o)
    first = None if start is None or k == 0 else max(start, schedule.steps[k - 1])
    if first is not None and first < checkpoint.step:
        found, adjoint, notes = exact(
            task, trajectory, k, train, adjoint, first,
            chunk=chunk, how=o.hvp, epsilon=o.epsilon, states_bytes=o.states_bytes,
        )  # fmt: skip
        vectors["exact"] = {"contribution": found}
    if schedule.rates(k, o.checkpoint_position, start) or start is None:
        s, w, figures = segment(task, trajectory, k, train, adjoint["w"], start, seed=seed, chunk=chunk, o=o)
        vectors["s"], adjoint, notes = s, {"w": w}, notes | figures
    return Sweep(vectors, adjoint, notes).checked(checkpoint.step)


def exact_from(trajectory: Trajectory, o: DiffInOptions) -> int | None:
    """The step from which all steps are taken one by one; None where segments go to the end of the run."""
    first, steps = first_replayable(trajectory), trajectory.schedule.steps[-1]
    if o.resolution == "segments" or first is None or first == steps:
        return None
    return first if o.resolution == "steps" else max(first, steps - round(o.tail * steps))


def segment(
    task: Task,
    trajectory: Trajectory,
    k: int,
    train: Data,
    w: Tensors,
    until: int | None,
    *,
    seed: int,
    chunk: int,
    o: DiffInOptions,
    share: float = 1.0,
) -> tuple[Tensors, Tensors, dict[str, float]]:
    """(φ(C_k) w, ψ(C_k) w, notes) for the steps that checkpoint k stands for, before step `until`.

    With Adam's preconditioner P, both are functions of the symmetric P^½ C_k P^½ on P^½ w:
    s = P^½ φ P^½ w and w ← P^-½ ψ P^½ w.

    Args:
        share: of C_k that is left, where samples are taken out of the batches and their divisors kept.
    """
    if o.curvature == "kronecker":
        stacked = {name: part[None] for name, part in w.items()}
        *found, notes = kronecker_segment(
            task, trajectory, k, train, stacked, until, seed=seed, chunk=chunk, o=o, share=share
        )
        s, w = ({name: part[0] for name, part in vector.items()} for vector in found)
        return s, w, notes
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    rates = schedule.rates(k, o.checkpoint_position, until)
    decays = schedule.decays(k, o.checkpoint_position, until)
    ridge = 0.0 if schedule.decoupled else schedule.weight_decay
    root = root_of_preconditioner(trajectory, k, w)
    multiply = partial(
        ggn_vp if o.curvature == "ggn" else hvp,
        task,
        checkpoint,
        train,
        chunk=chunk,
        rows=curvature_rows(len(train), o.hessian_samples, seed, task.group),
        how=o.hvp,
        epsilon=o.epsilon,
    )

    def product(flat: torch.Tensor) -> torch.Tensor:
        image = multiply(unflatten(root * flat, w))
        ensure_finite_vector("A product with the curvature", checkpoint.step, image)
        return root * (share * flatten(image) + ridge * root * flat)

    krylov = lanczos(product, root * flatten(w), o.lanczos_steps)
    phi, psi = phi_psi(krylov.values, rates, decays, clamp=o.clamp)
    notes = {"lambda_max": krylov.largest, "eta_lambda_max": krylov.largest * max(rates, default=0.0)}
    return unflatten(root * krylov.apply(phi), w), unflatten(krylov.apply(psi) / root, w), notes


def kronecker_segment(
    task: Task,
    trajectory: Trajectory,
    k: int,
    train: Data,
    w: Tensors,
    until: int | None,
    *,
    seed: int,
    chunk: int,
    o: DiffInOptions,
    share: float = 1.0,
) -> tuple[Tensors, Tensors, dict[str, float]]:
    """`segment` for many w at once, stacked [K, …], by the Kronecker product."""
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    rates = schedule.rates(k, o.checkpoint_position, until)
    decays = schedule.decays(k, o.checkpoint_position, until)
    flat = root_of_preconditioner(trajectory, k, checkpoint.params)
    root = unflatten(flat, checkpoint.params) if flat.dim() else None
    c = kronecker(
        task, checkpoint, train, chunk=chunk, rows=curvature_rows(len(train), o.hessian_samples, seed),
        seed=seed, root=root, ridge=0.0 if schedule.decoupled else schedule.weight_decay,
    )  # fmt: skip
    if root is not None:
        w = {name: part * root[name] for name, part in w.items()}
    phi, psi = c.apply(lambda values: phi_psi(share * values, rates, decays, clamp=o.clamp), w)
    if root is not None:
        phi = {name: part * root[name] for name, part in phi.items()}
        psi = {name: part / root[name] for name, part in psi.items()}
    notes = {"lambda_max": c.largest, "eta_lambda_max": c.largest * max(rates, default=0.0)}
    return phi, psi, notes


def root_of_preconditioner(trajectory: Trajectory, k: int, w: Tensors) -> torch.Tensor:
    """P^½ [P], P = 1/(√v̂ + ε), v̂ of checkpoint k or, where it has none, of the next; else 1.

    Frozen at the segment: what a sample does to v̂ itself is left out.
    """
    schedule = trajectory.schedule
    if schedule.optimizer != "sgd":
        for checkpoint in (trajectory.checkpoints[i] for i in range(k, min(k + 2, len(schedule.steps)))):
            if "exp_avg_sq" in checkpoint.state and checkpoint.step:
                squares = flatten({name: checkpoint.state["exp_avg_sq"][name] for name in w})
                corrected = squares / (1 - schedule.betas[1] ** checkpoint.step)
                return (corrected.sqrt() + schedule.eps).rsqrt()
    first = next(iter(w.values()))
    return torch.ones((), dtype=first.dtype, device=first.device)


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
    """harmful(z) -= Dℓ_z(θ_k)[s]/N, and what its single steps said of z."""
    checkpoint = trajectory.checkpoints[k]
    if "s" in vectors:
        found = directional_derivative(task, checkpoint, inputs, targets, vectors["s"])
        losses, predictions = found.losses, found.predictions
        contribution = -found.derivatives.double() / trajectory.schedule.train_size
    else:
        losses, predictions = plain_losses(task, checkpoint, inputs, targets)
        contribution = torch.zeros(len(losses), dtype=torch.float64, device=losses.device)
    if "exact" in vectors:
        known = vectors["exact"]["contribution"]
        contribution = contribution + known[list(rows)].to(contribution.device)
    return Chunk(contribution, losses, predictions).checked(checkpoint.step)


def curvature_rows(population: int, size: int | None, seed: int, group: int = 1) -> list[int] | None:
    """Rows the curvature is averaged over, the same at all checkpoints; None: all."""
    if size is None or size >= population:
        return None
    return draw_rows(population, size, seed=seed, group=group)
