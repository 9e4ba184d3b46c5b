"""Functions of the Gauss-Newton matrix on many vectors at once, by its factor (README, "Per query").

C = (1/n) Σ_z J_zᵀ A_z J_z with A_z = ∇²_f ℓ_z = Σ_i λ_zi u_zi u_ziᵀ [D, D], so that C = FᵀF with a row
√(λ_zi/n) J_zᵀ u_zi for each z and i. F Fᵀ has the same spectrum and is much smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.func import hessian, vmap

from worker.influence.errors import ensure_finite_vector
from worker.influence.gradients import over_gradients, rows_of
from worker.influence.memory import over_chunks
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Data, draw_rows

Function = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Factor:
    """C ≈ FᵀF, F Fᵀ = U diag(λ) Uᵀ.

    Attributes:
        rows: F [R, P].
        values: λ [R], float64, ascending, none of them negative.
        vectors: U [R, R], float64, in columns.
    """

    rows: torch.Tensor
    values: torch.Tensor
    vectors: torch.Tensor

    def apply(self, functions: Sequence[Function], vectors: torch.Tensor) -> list[torch.Tensor]:
        """f(FᵀF) = f(0) + Fᵀ U diag((f(λ) - f(0))/λ) Uᵀ F, for each f, on each row of `vectors` [K, P].

        Values that are rounding count as 0.
        """
        scale = float(self.values[-1]) * len(self.values)
        here = self.values > torch.finfo(self.rows.dtype).eps * scale
        inside = self.vectors.T @ (self.rows @ vectors.T).to(self.vectors)  # [R, K]
        found = []
        for function in functions:
            at_zero = float(function(self.values.new_zeros(1)))
            slope = torch.where(here, (function(self.values) - at_zero) / self.values.where(here, 1.0), 0.0)
            outside = (self.vectors @ (slope[:, None] * inside)).to(vectors)
            found.append(torch.addmm(vectors, outside.T, self.rows, beta=at_zero))
        return found

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.values[-1])


class _Directions(NamedTuple):
    """Rows of F as directions among the outputs [R, D], sums of ±√(λ/n) u, of the samples [R]."""

    samples: torch.Tensor
    outputs: torch.Tensor


def factor(
    task: Task,
    checkpoint: Checkpoint,
    data: Data,
    *,
    chunk: int,
    rows: Sequence[int] | range | None,
    most: int,
    seed: int,
    root: torch.Tensor | None = None,
) -> Factor:
    """F of the Gauss-Newton matrix C over `rows` of `data` (None: all), or of P^½ C P^½; at most `most` rows.

    Where there would be more, F has on average the right FᵀF: the largest λ_zi keep rows of their own, and
    each sample's others share one row, with random signs; of more than most/2 samples, most/2 are drawn.

    Args:
        root: P^½ [P], or a scalar; None: 1.
    """
    wanted = list(range(len(data)) if rows is None else rows)
    width = num_outputs(task, checkpoint, data)
    if len(wanted) * width > most and len(wanted) > most // 2:
        wanted = [wanted[i] for i in draw_rows(len(wanted), max(1, most // 2), seed=seed)]
    pairs = list(over_chunks(lambda x, y: _output_curvature(task, checkpoint, x, y), data, chunk, wanted))
    values = torch.cat([values for values, _ in pairs]).clamp(min=0) / len(wanted)  # [n, D]
    columns = torch.cat([vectors for _, vectors in pairs]) * values.sqrt()[:, None]  # [n, D, D]
    found = _directions(values, columns, most, seed)
    like = next(iter(checkpoint.params.values()))

    def along(params: Tensors, x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        return (task.outputs(params, checkpoint.buffers, x[None]).flatten() * direction).sum()

    parts = []
    for samples, outputs in zip(*(torch.split(t, chunk) for t in found), strict=True):
        [(inputs, _)] = data.chunks(len(samples), [wanted[i] for i in samples.tolist()])
        parts.append(over_gradients(along, checkpoint.params, (inputs, outputs.to(like)), rows_of))
    factored = torch.cat(parts) if root is None else torch.cat(parts) * root
    ensure_finite_vector("The Gauss-Newton matrix", checkpoint.step, {"F": factored})
    spectrum, basis = torch.linalg.eigh((factored @ factored.T).double())
    return Factor(factored, spectrum.clamp(min=0), basis)


def _directions(values: torch.Tensor, columns: torch.Tensor, most: int, seed: int) -> _Directions:
    """Which rows F has, given λ/n [n, D] and √(λ/n) u [n, D, D], in columns."""
    count, width = values.shape
    if count * width <= most:
        samples, which = torch.arange(count).repeat_interleave(width), torch.arange(width).repeat(count)
        return _Directions(samples, columns[samples, :, which])
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(count * width, generator=generator).to(values.device)  # ties fall by chance
    ranked = shuffled[values.flatten()[shuffled].argsort(descending=True, stable=True)]
    alone = torch.zeros_like(values, dtype=torch.bool)
    alone.view(-1)[ranked[: max(0, most - count)]] = True
    samples, which = alone.nonzero(as_tuple=True)
    signs = (torch.randint(0, 2, (count, width), generator=generator) * 2 - 1).to(values)
    shared = (columns * (signs * ~alone)[:, None]).sum(2)
    everyone = torch.arange(count, device=values.device)
    return _Directions(torch.cat([samples, everyone]), torch.cat([columns[samples, :, which], shared]))


def num_outputs(task: Task, checkpoint: Checkpoint, data: Data) -> int:
    """D, how many outputs a sample has."""
    [(inputs, _)] = data.chunks(1, range(1))
    return task.outputs(checkpoint.params, checkpoint.buffers, inputs).numel()


def _output_curvature(
    task: Task, checkpoint: Checkpoint, inputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(eigenvalues [B, D], eigenvectors [B, D, D] in columns) of A_z, in float64."""
    outputs = task.outputs(checkpoint.params, checkpoint.buffers, inputs).double()

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return task.losses_of(output[None], target[None])[0]

    size = outputs[0].numel()
    matrices = vmap(hessian(loss))(outputs, targets).reshape(len(outputs), size, size)
    ensure_finite_vector("The loss's Hessian in the outputs", checkpoint.step, {"A": matrices})
    values, vectors = torch.linalg.eigh(matrices)
    return values, vectors
