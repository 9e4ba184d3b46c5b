"""The Gauss-Newton matrix by a corrected Kronecker product for each tensor (README, "Kronecker").

Each tensor's block of C is taken to have the eigenvectors of a Kronecker product, one basis for its rows and
one for its columns, and its true mean square along each of them:

    C ≈ (Q ⊗ R) diag(Λ) (Q ⊗ R)ᵀ,   Q, R: eigenvectors of E[G Gᵀ], E[Gᵀ G],   Λ = E[(Qᵀ G R)²]

with G [rows, columns] the tensor's part of J_zᵀ a, a drawn so that E[a aᵀ] is the loss's Hessian in the
outputs. Eigenvalue correction: George et al., arXiv 1806.03884; bases from gradients: Gupta et al., arXiv
1802.09568; in segments of a training run: Bae et al., arXiv 2405.12186.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from worker.influence.errors import NonFiniteError, ensure_finite_rows, ensure_finite_vector
from worker.influence.gradients import over_gradients
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Data

MOST_SIDE = 2048  # rows or columns that are given a basis of their own; longer sides keep the axes

Functions = Callable[[torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Kronecker:
    """C by blocks; each dictionary by the tensor's name.

    Attributes:
        left: Q [O, O], or None where the rows keep their axes.
        right: R [I, I], or None likewise.
        values: Λ [O, I], float64, none of them negative.
    """

    left: dict[str, torch.Tensor | None]
    right: dict[str, torch.Tensor | None]
    values: Tensors

    def apply(self, functions: Functions, vectors: Tensors) -> list[Tensors]:
        """f(C), for each f that `functions` gives of Λ [O·I], on each of `vectors` [K, …]."""
        images: dict[str, list[torch.Tensor]] = {}
        for name, vector in vectors.items():
            q, r, values = self.left[name], self.right[name], self.values[name]
            turned = _turned(_matrices(vector), q, r)
            scales = (scale.view_as(values).to(turned) for scale in functions(values.flatten()))
            images[name] = [_back(scale * turned, q, r).view_as(vector) for scale in scales]
        return [dict(zip(images, each, strict=True)) for each in zip(*images.values(), strict=True)]

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return max(float(values.max()) for values in self.values.values())


def kronecker(
    task: Task,
    checkpoint: Checkpoint,
    data: Data,
    *,
    chunk: int,
    rows: Sequence[int] | range | None,
    seed: int,
    root: Tensors | None = None,
    ridge: float = 0.0,
) -> Kronecker:
    """C over `rows` of `data` (None: all), or P^½ (C + ridge·I) P^½, in two passes over their gradients.

    Args:
        root: P^½ by name; None: 1.
        ridge: its part of Λ is exact without `root`, and its diagonal in the bases with it.

    Raises:
        NonFiniteError: a gradient is NaN or infinite.
        ValueError: the loss has no curvature of this kind.
    """
    if task.loss not in ("cross_entropy", "bce_with_logits", "mse"):
        raise ValueError(f"Kronecker curvature knows no loss by {task.loss}: take another")
    wanted = range(len(data)) if rows is None else rows

    def gradients(stream: int) -> Iterator[Tensors]:
        for drawn in _drawn(task, checkpoint, data, wanted, chunk, 2 * (seed % 2**62) + stream):
            yield {name: part if root is None else part * root[name] for name, part in drawn.items()}

    left: Tensors = {}
    right: Tensors = {}
    for drawn in gradients(0):
        ensure_finite_vector("The Gauss-Newton matrix", checkpoint.step, drawn)
        for name, part in drawn.items():
            g = _matrices(part)
            _add(left, name, g.transpose(1, 2))
            _add(right, name, g)
    q, r = _bases(left, checkpoint.params), _bases(right, checkpoint.params)
    values: Tensors = {}
    for drawn in gradients(1):
        for name, part in drawn.items():
            squares = _turned(_matrices(part), q[name], r[name]).square().sum(0, dtype=torch.float64)
            values[name] = values[name] + squares if name in values else squares
    found = {name: total / len(wanted) for name, total in values.items()}
    if ridge:
        for name, total in found.items():
            found[name] = total + ridge * _diagonal(root, name, q[name], r[name], total)
    return Kronecker(q, r, found)


def _drawn(
    task: Task, checkpoint: Checkpoint, data: Data, rows: Sequence[int] | range, chunk: int, seed: int
) -> Iterator[Tensors]:
    """J_zᵀ a of each sample, stacked [b, …], a few at a time; a sample's draw does not hang on its chunk."""

    def along(params: Tensors, x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        return (task.outputs(params, checkpoint.buffers, x[None])[0] * direction).sum()

    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        [(inputs, _)] = data.chunks(len(part), part)
        outputs = task.outputs(checkpoint.params, checkpoint.buffers, inputs)
        try:
            ensure_finite_rows("The network's output", checkpoint.step, outputs.flatten(1).sum(1))
        except NonFiniteError as error:
            raise NonFiniteError(error.what, error.step, part[error.row or 0]) from None
        directions = curvature_draw(task, outputs, part, seed)
        taken: list[Tensors] = []

        def keep(gradients: Tensors, taken: list[Tensors] = taken) -> torch.Tensor:
            taken.append(gradients)
            return next(iter(gradients.values())).new_empty(0)

        over_gradients(along, checkpoint.params, (inputs, directions), keep)
        yield from taken


def curvature_draw(task: Task, outputs: torch.Tensor, rows: Sequence[int] | range, seed: int) -> torch.Tensor:
    """a [B, …] with E[a aᵀ] the Hessian of each sample's loss in its outputs, drawn by (seed, row).

    Cross-entropy: (e_c - p)/√D with c drawn from p = softmax, at each of D positions. Binary: likewise, of
    one probability. Mean squared error: ±√(2/D).
    """
    classes = task.loss == "cross_entropy"
    shape = outputs.shape[2:] if classes else outputs.shape[1:]
    # counter-based: neighbouring rows' streams have nothing to do with each other
    draws = [np.random.Generator(np.random.Philox(key=[seed, row])).random(tuple(shape)) for row in rows]
    noise = torch.from_numpy(np.stack(draws)).to(outputs)
    scale = 1 / math.sqrt(shape.numel())
    if classes:
        p = outputs.softmax(1)
        drawn = (p.cumsum(1) < noise[:, None]).sum(1).clamp(max=outputs.shape[1] - 1)
        return scale * (torch.zeros_like(p).scatter_(1, drawn[:, None], 1.0) - p)
    if task.loss == "mse":
        return scale * math.sqrt(2) * torch.where(noise < 0.5, -1.0, 1.0).to(outputs)
    p = outputs.sigmoid()
    return scale * ((noise < p).to(outputs) - p)


def _matrices(stacked: torch.Tensor) -> torch.Tensor:
    """[b, …] as [b, rows, columns]: the first dimension against the rest, a vector as a column."""
    if stacked.dim() < 3:
        return stacked.reshape(len(stacked), -1, 1)
    return stacked.flatten(2)


def _add(totals: Tensors, name: str, g: torch.Tensor) -> None:
    """Adds Σ_b gᵀ g of g [b, ·, side] to `totals`, unless the side is 1 or too long."""
    if not 1 < g.shape[2] <= MOST_SIDE:
        return
    flat = g.reshape(-1, g.shape[2])
    product = (flat.T @ flat).double()
    totals[name] = totals[name] + product if name in totals else product


def _bases(totals: Tensors, params: Tensors) -> dict[str, torch.Tensor | None]:
    """The eigenvectors of each total, None where there is none; the totals are let go of one by one."""
    return {name: torch.linalg.eigh(totals.pop(name))[1] if name in totals else None for name in params}


def _turned(g: torch.Tensor, q: torch.Tensor | None, r: torch.Tensor | None) -> torch.Tensor:
    """Qᵀ g R of each g [b, O, I]."""
    g = g if r is None else g @ r.to(g)
    return g if q is None else q.T.to(g) @ g


def _back(g: torch.Tensor, q: torch.Tensor | None, r: torch.Tensor | None) -> torch.Tensor:
    """Q g Rᵀ of each g [b, O, I]."""
    g = g if r is None else g @ r.T.to(g)
    return g if q is None else q.to(g) @ g


def _diagonal(
    root: Tensors | None, name: str, q: torch.Tensor | None, r: torch.Tensor | None, like: torch.Tensor
) -> torch.Tensor:
    """The diagonal of P in the bases, [O, I]; 1 without P."""
    if root is None:
        return torch.ones_like(like)
    squares = _matrices(root[name][None].square().to(like))
    return _turned(squares, None if q is None else q.square(), None if r is None else r.square())[0]
