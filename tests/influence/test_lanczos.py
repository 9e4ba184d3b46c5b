"""Functions of a matrix by Lanczos against its whole spectrum."""

from __future__ import annotations

import pytest
import torch

from worker.influence.lanczos import lanczos, phi_psi


@pytest.fixture
def matrix() -> torch.Tensor:
    """Symmetric [30, 30] with eigenvalues from -0.5 to 8."""
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64, generator=generator))[0]
    values = torch.linspace(-0.5, 8, 30, dtype=torch.float64)
    return torch.mm(q * values, q.T)


@pytest.fixture
def w() -> torch.Tensor:
    return torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_an_exhausted_krylov_space_gives_any_function_exactly(matrix: torch.Tensor, w: torch.Tensor) -> None:
    krylov = lanczos(lambda u: matrix @ u, w, 100)
    values, vectors = torch.linalg.eigh(matrix)
    for function in (torch.exp, torch.sign, lambda x: x.clamp(0, 1)):
        exact = vectors @ (function(values) * (vectors.T @ w))
        assert torch.allclose(krylov.apply(function(krylov.values)), exact, rtol=0, atol=1e-10 * exact.norm())
    assert krylov.largest == pytest.approx(8, rel=1e-12)


def test_the_basis_stays_orthonormal(matrix: torch.Tensor, w: torch.Tensor) -> None:
    basis = lanczos(lambda u: matrix @ u, w, 30).basis
    assert torch.allclose(basis @ basis.T, torch.eye(30, dtype=torch.float64), atol=1e-13)


def test_few_steps_find_the_largest_eigenvalue_and_polynomials_of_their_degree(
    matrix: torch.Tensor, w: torch.Tensor
) -> None:
    krylov = lanczos(lambda u: matrix @ u, w, 6)
    assert 7 < krylov.largest <= 8
    cubed = matrix @ matrix @ matrix @ w
    assert torch.allclose(krylov.apply(krylov.values**3), cubed, atol=1e-10 * cubed.norm())


def test_it_stops_where_the_space_is_exhausted() -> None:
    diagonal = torch.tensor([1.0, 1.0, 4.0, 4.0, 9.0, 9.0])
    products = []

    def product(u: torch.Tensor) -> torch.Tensor:
        products.append(u)
        return diagonal * u

    krylov = lanczos(product, torch.ones(6), 6)
    assert len(products) == 3  # as many as there are different eigenvalues
    assert krylov.values.tolist() == pytest.approx([1, 4, 9], rel=1e-5)
    assert krylov.apply(krylov.values.sqrt()).tolist() == pytest.approx([1, 1, 2, 2, 3, 3], rel=1e-5)


def test_zero_stays_zero(matrix: torch.Tensor) -> None:
    krylov = lanczos(lambda u: matrix @ u, torch.zeros(30, dtype=torch.float64), 10)
    assert krylov.largest == 0
    assert torch.equal(krylov.apply(krylov.values), torch.zeros(30, dtype=torch.float64))


@pytest.mark.parametrize("clamp", [True, False])
def test_phi_and_psi_are_the_steps_one_by_one(clamp: bool) -> None:
    rates, decays = (0.5, 1.0, 0.25), (0.1, 0.0, 0.2)
    values = torch.tensor([-1.0, 0.0, 0.7, 1.5, 30.0], dtype=torch.float64)
    phi, psi = phi_psi(values, rates, decays, clamp=clamp)
    for i, value in enumerate(values.tolist()):
        w, s = 1.0, 0.0
        for rate, decay in ((0.25, 0.2), (1.0, 0.0), (0.5, 0.1)):
            s += rate * w
            factor = 1 - decay - rate * value
            w *= min(max(factor, 0), 1 - decay) if clamp else factor
        assert float(phi[i]) == pytest.approx(s, rel=1e-12)
        assert float(psi[i]) == pytest.approx(w, rel=1e-12)


def test_a_segment_without_steps_changes_nothing() -> None:
    phi, psi = phi_psi(torch.tensor([-1.0, 5.0]), (), (), clamp=True)
    assert phi.tolist() == [0, 0]
    assert psi.tolist() == [1, 1]


@pytest.mark.parametrize("clamp", [True, False])
def test_steps_at_one_rate_are_added_up_as_if_one_by_one(clamp: bool) -> None:
    values = torch.tensor([-1.0, 0.0, 1e-13, 1e-6, 0.3, 4.9999999, 5.0, 9.0], dtype=torch.float64)
    rates = [0.2] * 40 + [0.1] * 3 + [0.0] * 2
    phi, psi = torch.zeros_like(values), torch.ones_like(values)
    for rate in reversed(rates):
        factor = 1 - rate * values
        phi, psi = phi + rate * psi, psi * (factor.clamp(0, 1) if clamp else factor)
    ours = phi_psi(values, rates, [0.0] * len(rates), clamp=clamp)
    assert torch.allclose(ours[0], phi, rtol=1e-12, atol=1e-300)
    assert torch.allclose(ours[1], psi, rtol=1e-12, atol=1e-300)
