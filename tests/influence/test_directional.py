"""Derivatives against explicit gradients and Hessians."""

from __future__ import annotations

import pytest
import torch

from tests.influence.conftest import Run, close
from worker.influence.directional import Differentiation, directional_derivative, ggn_vp, gradient, hvp, mixed
from worker.influence.vectors import flatten, unflatten

HOW: tuple[Differentiation, ...] = ("exact", "finite_difference")


def direction(run: Run, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    like = run.checkpoints[1].params
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(flatten(like).shape, dtype=torch.float64, generator=generator)
    return unflatten(flat, like), flat


def test_flattening_has_an_inverse(one_run: Run) -> None:
    u, flat = direction(one_run, 0)
    assert torch.equal(flatten(u), flat)
    assert [t.shape for t in u.values()] == [t.shape for t in one_run.checkpoints[1].params.values()]


@pytest.mark.parametrize("rows", [None, [2, 2, 7]])
def test_gradient_and_curvature_products_are_means_over_rows(run: Run, rows: list[int] | None) -> None:
    dense, (u, flat) = run.dense[1], direction(run, 0)
    where, at = rows or list(range(13)), (run.task, run.checkpoints[1], run.train)
    assert close(flatten(gradient(*at, chunk=2, rows=rows)), dense.gradients[where].mean(0))
    assert close(flatten(hvp(*at, u, chunk=2, rows=rows)), dense.hessians[where].mean(0) @ flat)
    if rows is None:
        assert close(flatten(ggn_vp(*at, u, chunk=2)), dense.gauss_newton @ flat)


def test_curvature_products_by_finite_differences_do_not_mind_the_length_of_the_vector(run: Run) -> None:
    u, flat = direction(run, 0)
    far = unflatten(1e6 * flat, u)
    for product in (hvp, ggn_vp):
        at = (run.task, run.checkpoints[1], run.train)
        exact = flatten(product(*at, far, chunk=64))
        assert close(flatten(product(*at, far, chunk=64, how="finite_difference", epsilon=1e-4)), exact, 1e-6)


def test_a_product_with_the_zero_vector_is_zero(run: Run) -> None:
    zero = {name: torch.zeros_like(p) for name, p in run.checkpoints[1].params.items()}
    for how in HOW:
        assert flatten(hvp(run.task, run.checkpoints[1], run.train, zero, chunk=9, how=how)).abs().max() == 0


def test_the_first_directional_derivative_is_a_product_with_each_gradient(run: Run) -> None:
    dense, (u, flat) = run.dense[1], direction(run, 0)
    found = directional_derivative(run.task, run.checkpoints[1], run.train.inputs, run.train.targets, u)
    assert close(found.derivatives, dense.gradients @ flat)
    assert close(found.losses, dense.losses)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("drifting", [True, False])
def test_the_mixed_one_is_a_product_with_each_hessian(run: Run, how: Differentiation, drifting: bool) -> None:
    dense = run.dense[1]
    (u, flat_u), (g, flat_g), (r, flat_r) = (direction(run, seed) for seed in range(3))
    at = (run.task, run.checkpoints[1], run.train.inputs, run.train.targets)
    found = mixed(*at, u, g, r if drifting else None, how=how, epsilon=1e-4)
    expected = dense.hessians @ flat_g @ flat_u + drifting * (dense.gradients @ flat_r)
    assert close(found.derivatives, expected, 1e-9 if how == "exact" else 1e-6)
    assert close(found.losses, dense.losses)


def test_a_mean_over_no_samples_is_refused(one_run: Run) -> None:
    with pytest.raises(ValueError, match="no samples"):
        gradient(one_run.task, one_run.checkpoints[0], one_run.train, chunk=2, rows=[])
