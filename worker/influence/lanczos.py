"""Functions of a symmetric matrix on a vector, from products with the matrix alone.

Source: Golub & Van Loan, Matrix Computations, 10.1 and 10.3; full reorthogonalisation, since without it
Ritz values repeat themselves and functions of the matrix lose accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch


@dataclass(frozen=True)
class Krylov:
    """A ≈ Q T Qᵀ on the Krylov space of A and a start vector w, T = U diag(λ) Uᵀ.

    Attributes:
        basis: Q, orthonormal rows [n, P], the first of them w/‖w‖; n = 0 for w = 0.
        length: ‖w‖.
        values: Ritz values λ [n], float64, ascending.
        vectors: U [n, n], float64, in columns.
    """

    basis: torch.Tensor
    length: float
    values: torch.Tensor
    vectors: torch.Tensor

    def apply(self, function_of_values: torch.Tensor) -> torch.Tensor:
        """f(A) w ≈ ‖w‖ Q U f(λ) Uᵀ e₁ [P], given f(λ) [n]."""
        if not len(self.values):
            return self.basis.new_zeros(self.basis.shape[1])
        weights = self.length * (self.vectors @ (function_of_values * self.vectors[0]))
        return weights.to(self.basis) @ self.basis

    @property
    def largest(self) -> float:
        """The largest Ritz value, from below an estimate of A's largest eigenvalue; 0 for w = 0."""
        return float(self.values[-1]) if len(self.values) else 0.0


def lanczos(product: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, steps: int) -> Krylov:
    """The Krylov space of `product` (u ↦ A u, both [P]) and `start` w [P], of `steps` dimensions at most.

    It ends early where the space is exhausted: what is left of A q after taking out the basis is rounding.
    The small eigenproblem is solved in float64.
    """
    length = float(start.norm())
    basis = start.new_zeros((min(steps, start.numel()), start.numel()))
    diagonal: list[float] = []
    below: list[float] = []  # the sub-diagonal, with the last residual's norm at its end
    if length > 0:
        q = start / length
        for n in range(len(basis)):
            basis[n] = q
            residual = product(q)
            diagonal.append(float(q @ residual))
            for _ in range(2):  # once leaves rounding behind, twice is enough
                residual = residual - (basis[: n + 1] @ residual) @ basis[: n + 1]
            below.append(float(residual.norm()))
            scale = max(abs(entry) for entry in (*diagonal, *below))
            if below[-1] <= 10 * torch.finfo(start.dtype).eps * scale:
                break
            q = residual / below[-1]
    values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, below[:-1]))
    return Krylov(basis[: len(diagonal)], length, values, vectors)


def _tridiagonal(diagonal: Sequence[float], beside: Sequence[float]) -> torch.Tensor:
    """The symmetric matrix [n, n], float64, with these entries on and beside its diagonal."""
    matrix = torch.zeros((len(diagonal), len(diagonal)), dtype=torch.float64)
    for i, entry in enumerate(diagonal):
        matrix[i, i] = entry
    for i, entry in enumerate(beside):
        matrix[i, i + 1] = matrix[i + 1, i] = entry
    return matrix


def phi_psi(
    values: torch.Tensor, rates: Sequence[float], decays: Sequence[float], *, clamp: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """φ(λ) = Σ_j η_j Π_{i>j} f_i(λ) and ψ(λ) = Π_j f_j(λ) of a segment, f_j(λ) = 1 - d_j - η_j λ.

    ψ carries w from the end of the segment to its start; φ adds up η_j times what it is after each step.

    Args:
        values: λ [n], float64.
        rates: η_j of the segment's steps, first to last.
        decays: d_j, what decoupled weight decay takes away beside.
        clamp: hold each factor within 0 ≤ f_j ≤ 1 - d_j, else the products explode where η_j λ > 2 or λ < 0.

    Returns:
        φ [n], ψ [n].
    """
    phi, psi = torch.zeros_like(values), torch.ones_like(values)
    for (rate, decay), alike in groupby(zip(reversed(rates), reversed(decays), strict=True)):
        steps = sum(1 for _ in alike)  # a constant rate over a million steps is one turn of this loop
        factor = 1 - decay - rate * values
        factor = factor.clamp(0, 1 - decay) if clamp else factor
        phi = phi + rate * psi * geometric_sum(factor, steps)
        psi = psi * factor**steps
    return phi, psi


def geometric_sum(factor: torch.Tensor, terms: int) -> torch.Tensor:
    """Σ_{j<n} f^j [n values of f], exact to rounding also where f is close to 1."""
    beyond = factor - 1
    positive = torch.expm1(terms * torch.log1p(beyond.clamp(min=-1))) / beyond
    sums = torch.where(factor > 0, positive, (1 - factor**terms) / (1 - factor))
    return torch.where(beyond == 0, float(terms), sums)
