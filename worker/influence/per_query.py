"""One score for each sample and each query: the methods of `PER_QUERY` (README, "Per query").

They are made of the same pieces as `methods.METHODS`, with a dimension more: vectors and carries are stacked
[K, …], one for each of the K queries, and the contributions of a chunk are [B, K]. Their mean over the
queries is what the method of the same name says of the query set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from worker.influence import diff_in, influence_function
from worker.influence.baselines import TracInOptions
from worker.influence.diff_in import DiffInOptions, curvature_rows, kronecker_segment
from worker.influence.errors import ensure_finite_vector
from worker.influence.gauss_newton import Factor, factor, num_outputs
from worker.influence.gradients import rows_of, sample_gradients
from worker.influence.influence_function import InfluenceFunctionOptions, kronecker_step
from worker.influence.lanczos import phi_psi
from worker.influence.memory import over_chunks
from worker.influence.methods import METHODS
from worker.influence.pieces import Chunk, Method, Options, Sweep, plain_losses, query_of, read
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint, Data, Trajectory

ROWS = 2000  # of the Gauss-Newton factor, at most; its cost grows with their square
MOST_OUTPUTS = 1000  # of a sample; a language model's are its tokens times its vocabulary
FACTOR_BYTES = 2 << 30  # of the factor; where it would be larger, each query has its own sweep


def tracin_sweep(
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
    """vectors {"s"}: Σ_j η_j ∇ℓ_q(θ_k), over the segment's steps j, of each query q."""
    read(TracInOptions, options)
    checkpoint, total = trajectory.checkpoints[k], sum(trajectory.schedule.rates(k))
    gradients = query_gradients(task, checkpoint, query, chunk)
    s = {name: total * part for name, part in gradients.items()}
    return Sweep({"s": s}).checked(checkpoint.step)


def influence_sweep(
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
    """vectors {"s"}: (C + δI)⁻¹ ∇ℓ_q, the share of a checkpoint that takes part; {"constant": 0 for each
    query} at the others."""
    o = read(InfluenceFunctionOptions, options)
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    share = influence_function.share(schedule, k, o)
    if not share:
        return Sweep({"constant": {"contribution": torch.zeros(len(query_of(query)), dtype=torch.float64)}})
    if o.curvature == "ggn" and not _has_factor(task, checkpoint, train):
        sweep = partial(influence_function.sweep, task, trajectory, k, train)
        alone = [sweep(one, None, seed=seed, chunk=chunk, options=options) for one in _each(query_of(query))]
        return _stack([replace(swept, vectors={"s": swept.vectors["x"]}) for swept in alone])
    gradients = query_gradients(task, checkpoint, query, chunk)
    ensure_finite_vector("The gradient of a query's loss", checkpoint.step, gradients)
    if o.curvature == "kronecker":
        s, notes = kronecker_step(task, trajectory, k, train, gradients, seed=seed, chunk=chunk, o=o)
    else:
        c = _factor(task, trajectory, k, train, o.hessian_samples, seed=seed, chunk=chunk)
        ridge = influence_function.ggn_ridge(schedule, o)
        [flat] = c.apply([lambda values: 1 / (values + ridge)], rows_of(gradients))
        s, notes = _named(flat, checkpoint.params), {"lambda_max": c.largest}
    s = {name: share * part for name, part in s.items()}
    return Sweep({"s": s}, notes=notes).checked(checkpoint.step)


def diff_in_sweep(
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
    """The sweep of `diff_in` with an adjoint for each query.

    With Gauss-Newton curvature, a segment does to all of them what a function of one factor of C_k says, or
    of its Kronecker product; with the Hessian, and over single steps, each has a sweep of its own, and K
    queries cost K times one.
    """
    o = read(DiffInOptions, options)
    checkpoint, schedule = trajectory.checkpoints[k], trajectory.schedule
    if carry is None and k < len(schedule.steps) - 1:
        raise ValueError(f"The sweep at checkpoint {k} needs the carry of the one at checkpoint {k + 1}")
    adjoint = carry or {"w": query_gradients(task, checkpoint, query, chunk)}
    ensure_finite_vector("The gradient of a query's loss", checkpoint.step, adjoint["w"])
    start = diff_in.exact_from(trajectory, o)
    single_steps = start is not None and k > 0 and start < checkpoint.step
    if o.curvature == "kronecker" and not single_steps:
        s, w, notes = kronecker_segment(
            task, trajectory, k, train, adjoint["w"], start, seed=seed, chunk=chunk, o=o
        )
        return Sweep({"s": s}, {"w": w}, notes).checked(checkpoint.step)
    root = diff_in.root_of_preconditioner(trajectory, k, checkpoint.params)
    ridge = 0.0 if schedule.decoupled else schedule.weight_decay
    commute = root.dim() == 0 or ridge == 0  # the ridge is one of P^½ (C + ridge) P^½
    if o.curvature == "hessian" or single_steps or not commute or not _has_factor(task, checkpoint, train):
        sweep = partial(diff_in.sweep, task, trajectory, k, train, query)
        return _stack([sweep(one, seed=seed, chunk=chunk, options=options) for one in _unstack(adjoint)])
    rates = schedule.rates(k, o.checkpoint_position, start)
    decays = schedule.decays(k, o.checkpoint_position, start)
    c = _factor(task, trajectory, k, train, o.hessian_samples, seed=seed, chunk=chunk, root=root)

    def segment(which: int) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda values: phi_psi(values + ridge, rates, decays, clamp=o.clamp)[which]

    phi, psi = c.apply([segment(0), segment(1)], root * rows_of(adjoint["w"]))
    s, w = (_named(flat, checkpoint.params) for flat in (root * phi, psi / root))
    largest = c.largest + ridge
    notes = {"lambda_max": largest, "eta_lambda_max": largest * max(rates, default=0.0)}
    return Sweep({"s": s}, {"w": w}, notes).checked(checkpoint.step)


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
    """-⟨G_z, s_q⟩/N for each sample z and query q, [B, K], and what single steps said of them.

    Gradients of single samples are formed, a few at a time: from 3 queries on, that costs less than a
    directional derivative for each.
    """
    checkpoint = trajectory.checkpoints[k]
    losses, predictions = plain_losses(task, checkpoint, inputs, targets)
    found: list[torch.Tensor] = []
    if "s" in vectors:
        flat = {name: part.flatten(1).T for name, part in vectors["s"].items()}  # [P, K] in pieces

        def products(gradients: Tensors) -> torch.Tensor:
            return torch.stack([part.flatten(1) @ flat[name] for name, part in gradients.items()]).sum(0)

        by_query = sample_gradients(task, checkpoint, inputs, targets, products)
        found.append(-by_query.double() / trajectory.schedule.train_size)
    if "exact" in vectors:
        found.append(vectors["exact"]["contribution"][:, list(rows)].T.to(losses.device))
    if "constant" in vectors:
        found.append(vectors["constant"]["contribution"].expand(len(losses), -1).to(losses.device))
    return Chunk(torch.stack(found).sum(0), losses, predictions).checked(checkpoint.step)


PER_QUERY: dict[str, Method] = {
    name: replace(METHODS[name], sweep=sweep, score_chunk=score_chunk)
    for name, sweep in (
        ("diff_in", diff_in_sweep),
        ("tracin", tracin_sweep),
        ("influence_function", influence_sweep),
    )
}


def query_gradients(task: Task, checkpoint: Checkpoint, query: Data | None, chunk: int) -> Tensors:
    """∇ℓ_q(θ_k) of each query q, stacked [K, …]."""

    def part(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return sample_gradients(task, checkpoint, inputs, targets, rows_of)

    return _named(torch.cat(list(over_chunks(part, query_of(query), chunk))), checkpoint.params)


def _has_factor(task: Task, checkpoint: Checkpoint, data: Data) -> bool:
    """Whether F is of a size to be kept, and a sample's outputs few enough for their Hessian to be."""
    if ROWS * sum(t.nbytes for t in checkpoint.params.values()) > FACTOR_BYTES:
        return False
    return num_outputs(task, checkpoint, data) <= MOST_OUTPUTS


def _factor(
    task: Task,
    trajectory: Trajectory,
    k: int,
    train: Data,
    samples: int | None,
    *,
    seed: int,
    chunk: int,
    root: torch.Tensor | None = None,
) -> Factor:
    rows = curvature_rows(len(train), samples, seed)
    checkpoint = trajectory.checkpoints[k]
    return factor(task, checkpoint, train, chunk=chunk, rows=rows, most=ROWS, seed=seed, root=root)


def _named(flat: torch.Tensor, like: Tensors) -> Tensors:
    """Rows [K, P] as stacked tensors [K, …] with the names and shapes of `like`."""
    pieces = torch.split(flat, [part.numel() for part in like.values()], dim=1)
    return {
        name: piece.reshape(len(flat), *part.shape)
        for (name, part), piece in zip(like.items(), pieces, strict=True)
    }


def _each(query: Data) -> Iterator[Data]:
    return (Arrays(*one) for one in query.chunks(1))


def _unstack(adjoint: dict[str, Tensors]) -> Iterator[dict[str, Tensors]]:
    for q in range(len(next(iter(adjoint["w"].values())))):
        yield {kind: {name: part[q] for name, part in vector.items()} for kind, vector in adjoint.items()}


def _stack(alone: Sequence[Sweep]) -> Sweep:
    """The sweeps of single queries as one, with the largest of their notes."""

    def stacked(parts: Sequence[dict[str, Tensors]]) -> dict[str, Tensors]:
        return {
            kind: {name: torch.stack([part[kind][name] for part in parts]) for name in vector}
            for kind, vector in parts[0].items()
        }

    carries = [swept.carry for swept in alone if swept.carry is not None]
    notes = {name: max(swept.notes[name] for swept in alone) for name in alone[0].notes}
    return Sweep(stacked([swept.vectors for swept in alone]), stacked(carries) if carries else None, notes)
