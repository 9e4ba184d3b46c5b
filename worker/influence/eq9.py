"""The published closed form (Eq. 9), to the letter, and its self-influence (README, "Eq. 9").

I(z,V) = Σ_t a_t ⟨∇L_V(θ_t), H_B G_z + H_z G_B⟩,  a_t = -t η_t²/(N m),  over the m checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.func import grad, vmap

from worker.influence.directional import (
    Differentiation,
    gradient,
    hvp,
    mixed,
)
from worker.influence.gradients import GRADIENT_BYTES, refuse_groups
from worker.influence.pieces import Chunk, Options, Sweep, query_of, read
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint, Data, Trajectory, draw_rows


@dataclass(frozen=True)
class Eq9Options:
    """Options of `diff_in_eq9`.

    Attributes:
        batch: B_t, drawn at random at each checkpoint, or the whole training set.
        batches_per_checkpoint: random batches averaged over; being of one size, together they are one batch.
        batch_size: of a random batch; the run's own.
        hvp, epsilon: how second derivatives are computed (`directional.derivative`).
        target: V, the query set, or z itself.
    """

    batch: Literal["random", "full"] = "random"
    batches_per_checkpoint: int = 1
    batch_size: int = 64
    hvp: Differentiation = "exact"
    epsilon: float = 1e-3
    target: Literal["query", "self"] = "query"


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
    """The vectors of the bracket at θ_k, with B_k drawn by seed and k.

    Returns:
        vectors {"v": ∇L_V, "g": G_B, "hv": H_B ∇L_V}; for target "self" {"g": G_B, "batch": {"inputs",
        "targets"}}, since every sample needs products with H_B of its own.
    """
    o = read(Eq9Options, options)
    checkpoint, rows = trajectory.checkpoints[k], _batch_rows(len(train), o, seed, k, task.group)
    g = gradient(task, checkpoint, train, chunk=chunk, rows=rows)
    if o.target == "self":
        parts = list(train.chunks(chunk, rows))
        batch = {
            "inputs": torch.cat([inputs for inputs, _ in parts]),
            "targets": torch.cat([targets for _, targets in parts]),
        }
        return Sweep(vectors={"g": g, "batch": batch}).checked(checkpoint.step)
    v = gradient(task, checkpoint, query_of(query), chunk=chunk)
    hv = hvp(task, checkpoint, train, v, chunk=chunk, rows=rows, how=o.hvp, epsilon=o.epsilon)
    return Sweep(vectors={"v": v, "g": g, "hv": hv}).checked(checkpoint.step)


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
    """a_t (Dℓ_z[H_B v] + D²ℓ_z[v, G_B]), or for target "self" the same with v = G_z."""
    o = read(Eq9Options, options)
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    rate = schedule.learning_rates[k][-1] if schedule.learning_rates[k] else 0.0
    a = -checkpoint.step * rate**2 / (schedule.train_size * len(schedule.steps))
    if o.target == "self":
        return _self_chunk(task, checkpoint, a, vectors, inputs, targets, o).checked(checkpoint.step)
    v, g, hv = vectors["v"], vectors["g"], vectors["hv"]
    found = mixed(task, checkpoint, inputs, targets, v, g, hv, how=o.hvp, epsilon=o.epsilon)
    return Chunk(a * found.derivatives.double(), found.losses, found.predictions).checked(checkpoint.step)


def _self_chunk(
    task: Task,
    checkpoint: Checkpoint,
    a: float,
    vectors: dict[str, Tensors],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    o: Eq9Options,
) -> Chunk:
    """a_t (D²L_B[G_z, G_z] + D²ℓ_z[G_z, G_B]): the one place where gradients of single samples are formed."""
    refuse_groups(task)
    part = max(1, min(len(vectors["batch"]["inputs"]), len(inputs)))
    each = sum(t.nbytes for t in checkpoint.params.values())
    # samples at a time, so that one pass is over a chunk at most, and of their gradients
    group = max(1, min(len(inputs) // part, GRADIENT_BYTES // each))
    batch = Arrays(vectors["batch"]["inputs"], vectors["batch"]["targets"])

    def own_gradient(x: torch.Tensor, y: torch.Tensor) -> Tensors:
        function = grad(lambda params: task.losses(params, checkpoint.buffers, x[None], y[None])[0])
        found: Tensors = function(checkpoint.params)
        return found

    def curvature(x: torch.Tensor, y: torch.Tensor, u: Tensors, along: Tensors) -> torch.Tensor:
        """Σ D²ℓ[u, along] over the samples (x, y)."""
        return mixed(task, checkpoint, x, y, u, along, how=o.hvp, epsilon=o.epsilon).derivatives.sum()

    def brackets(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        gradients = vmap(own_gradient)(x, y)
        with_batch = vmap(lambda x, y, u: curvature(x[None], y[None], u, vectors["g"]))(x, y, gradients)
        of_batch = sum(
            vmap(lambda u, x=x, y=y: curvature(x, y, u, u))(gradients) for x, y in batch.chunks(part)
        )
        return with_batch + of_batch / len(batch)

    outputs = task.outputs(checkpoint.params, checkpoint.buffers, inputs, targets)
    groups = Arrays(inputs, targets).chunks(group)
    contribution = a * torch.cat([brackets(x, y) for x, y in groups]).double()
    return Chunk(
        contribution, task.losses_of(outputs, targets), task.predictions(outputs, targets), contribution
    )


def _batch_rows(population: int, o: Eq9Options, seed: int, k: int, group: int) -> list[int] | None:
    """Rows of B_k, those of several random batches one after another; None for all."""
    if o.batch == "full":
        return None
    return [
        row
        for i in range(o.batches_per_checkpoint)
        for row in draw_rows(
            population, o.batch_size, seed=seed, stream=k * o.batches_per_checkpoint + i + 1, group=group
        )
    ]
