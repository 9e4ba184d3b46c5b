"""The Kronecker product against the matrix it stands for, where they are the same, and its promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.influence.conftest import Run, close
from worker.influence import kronecker as module
from worker.influence.errors import NonFiniteError
from worker.influence.kronecker import Functions, Kronecker, curvature_draw, kronecker
from worker.influence.lanczos import phi_psi
from worker.influence.score import score, score_queries
from worker.influence.task import Loss, Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

F64 = torch.float64


@pytest.fixture
def regression() -> tuple[Task, Checkpoint, Arrays]:
    """One row of weights and squared errors: the product is the Gauss-Newton matrix itself, 2 E[x xᵀ]."""
    torch.manual_seed(0)
    network = nn.Linear(6, 1, bias=False, dtype=F64)
    params = {name: p.detach() for name, p in network.named_parameters()}
    data = Arrays(torch.randn(40, 6, dtype=F64), torch.randn(40, dtype=F64))
    return Task(network, "mse"), Checkpoint(10, (0.1,) * 10, params, {}), data


def dense(data: Arrays) -> torch.Tensor:
    return 2 * data.inputs.T @ data.inputs / len(data)


FUNCTIONS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda values: phi_psi(values, (0.1,) * 10, (0.0,) * 10, clamp=True)[0],
    torch.exp,
]


def each(*functions: Callable[[torch.Tensor], torch.Tensor]) -> Functions:
    return lambda values: [function(values) for function in functions]


def of_matrix(function: Callable[[torch.Tensor], torch.Tensor], matrix: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    found: torch.Tensor = vectors @ torch.diag(function(values)) @ vectors.T
    return found


@pytest.mark.parametrize("rows", [None, range(5, 30)])
def test_one_row_of_weights_has_its_own_matrix(
    regression: tuple[Task, Checkpoint, Arrays], rows: range | None
) -> None:
    task, checkpoint, data = regression
    found = kronecker(task, checkpoint, data, chunk=7, rows=rows, seed=3)
    used = data if rows is None else Arrays(data.inputs[5:30], data.targets[5:30])
    vectors = torch.randn(4, 1, 6, dtype=F64)
    for function, image in zip(FUNCTIONS, found.apply(each(*FUNCTIONS), {"weight": vectors}), strict=True):
        assert close(image["weight"][:, 0], vectors[:, 0] @ of_matrix(function, dense(used)))
    assert found.largest == pytest.approx(float(torch.linalg.eigvalsh(dense(used))[-1]))


@pytest.mark.parametrize("damping", [0.3, None])
def test_the_influence_function_solves_by_it(
    regression: tuple[Task, Checkpoint, Arrays], damping: float | None
) -> None:
    task, checkpoint, data = regression
    query = Arrays(torch.randn(5, 6, dtype=F64), torch.randn(5, dtype=F64))
    schedule = Schedule((10,), (checkpoint.learning_rates,), None, train_size=40, weight_decay=0.02)
    options = {"curvature": "kronecker", "hessian_samples": None, "damping": damping}
    at = task, Trajectory([checkpoint], schedule), data, query
    found = score_queries("influence_function", *at, options=options)
    matrix = dense(data) + 0.02 * torch.eye(6)
    matrix = matrix + torch.eye(6) * (matrix.trace() / 6 / 1000 if damping is None else damping)
    weight = checkpoint.params["weight"][0]
    gradients = [2 * (part.inputs @ weight - part.targets)[:, None] * part.inputs for part in (data, query)]
    assert close(found, -gradients[0] @ torch.linalg.solve(matrix, gradients[1].T) / 40, 1e-8)
    assert close(score("influence_function", *at, options=options).scores, found.mean(1))


def test_a_tensor_that_no_sample_moves_says_nothing(regression: tuple[Task, Checkpoint, Arrays]) -> None:
    _, checkpoint, data = regression
    network = nn.Linear(6, 1, dtype=F64)
    still = Arrays(torch.zeros_like(data.inputs), data.targets)
    params = {name: p.detach() for name, p in network.named_parameters()}
    schedule = Schedule((10,), (checkpoint.learning_rates,), None, train_size=40)
    trajectory = Trajectory([replace(checkpoint, params=params)], schedule)
    at = Task(network, "mse"), trajectory, still, data
    found = score("influence_function", *at, options={"curvature": "kronecker"}).scores
    slopes = [2 * (network(part.inputs)[:, 0] - part.targets).detach() for part in (still, data)]
    assert close(found, -slopes[0] * slopes[1].mean() / (2 * 1.001) / 40)


def test_a_ridge_is_added_to_every_eigenvalue(regression: tuple[Task, Checkpoint, Arrays]) -> None:
    task, checkpoint, data = regression
    found = kronecker(task, checkpoint, data, chunk=7, rows=None, seed=3, ridge=0.5)
    vectors = torch.randn(2, 1, 6, dtype=F64)
    [image] = found.apply(each(torch.exp), {"weight": vectors})
    assert close(
        image["weight"][:, 0], vectors[:, 0] @ of_matrix(torch.exp, dense(data) + 0.5 * torch.eye(6))
    )


def test_a_preconditioner_stands_on_both_sides(regression: tuple[Task, Checkpoint, Arrays]) -> None:
    task, checkpoint, data = regression
    root = torch.rand(1, 6, dtype=F64) + 0.5
    found = kronecker(task, checkpoint, data, chunk=7, rows=None, seed=3, root={"weight": root})
    vectors = torch.randn(2, 1, 6, dtype=F64)
    [image] = found.apply(each(torch.exp), {"weight": vectors})
    assert close(image["weight"][:, 0], vectors[:, 0] @ of_matrix(torch.exp, root.T * dense(data) * root))


def test_the_ridge_beside_a_preconditioner_is_its_diagonal(
    regression: tuple[Task, Checkpoint, Arrays],
) -> None:
    task, checkpoint, data = regression
    root = {"weight": torch.rand(1, 6, dtype=F64) + 0.5}
    bare, found = (
        kronecker(task, checkpoint, data, chunk=7, rows=None, seed=3, root=root, ridge=ridge)
        for ridge in (0.0, 0.5)
    )
    basis = bare.right["weight"]
    assert basis is not None
    diagonal = (basis.T @ torch.diag(0.5 * root["weight"][0] ** 2) @ basis).diagonal()
    assert close(found.values["weight"][0], bare.values["weight"][0] + diagonal)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce_with_logits", "mse"])
def test_draws_have_the_curvature_of_the_loss(loss: Loss) -> None:
    torch.manual_seed(1)
    task = Task(nn.Identity(), loss)
    shape = (3, 2) if loss == "cross_entropy" else (4,)  # three classes at two positions
    outputs = torch.randn(1, *shape, dtype=F64)
    target = torch.zeros(1, 2, dtype=torch.int64) if loss == "cross_entropy" else torch.ones(1, 4, dtype=F64)
    hessian = torch.func.hessian(lambda f: task.losses_of(f[None], target)[0])(outputs[0])
    size = outputs.numel()
    draws = curvature_draw(task, outputs.expand(20_000, *shape), range(20_000), seed=0).reshape(-1, size)
    assert torch.allclose(
        draws.T @ draws / len(draws), hessian.reshape(size, size), atol=0.012
    )  # 3.4 deviations


def test_neither_the_chunk_nor_the_other_samples_change_a_draw(run: Run) -> None:
    at = run.task, run.trajectory.checkpoints[0], run.train
    one, other = (kronecker(*at, chunk=chunk, rows=None, seed=5) for chunk in (20, 3))
    probe = {name: torch.randn(2, *p.shape, dtype=F64) for name, p in at[1].params.items()}
    assert same(one, other, probe)
    again = kronecker(*at, chunk=20, rows=None, seed=6)
    assert not same(one, again, probe)


def same(a: Kronecker, b: Kronecker, probe: Tensors) -> bool:
    images = (which.apply(each(torch.sqrt), probe)[0] for which in (a, b))
    return all(torch.allclose(x, y) for x, y in zip(*(image.values() for image in images), strict=True))


def test_long_sides_keep_their_axes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SIDE", 2)
    found = kronecker(run.task, run.trajectory.checkpoints[0], run.train, chunk=5, rows=None, seed=0)
    assert all(basis is None or len(basis) <= 2 for basis in [*found.left.values(), *found.right.values()])
    weights = run.trajectory.checkpoints[0].params
    [image] = found.apply(each(torch.ones_like), {name: p[None] for name, p in weights.items()})
    assert all(torch.allclose(image[name][0], p) for name, p in weights.items())


def test_values_that_are_not_finite_are_told(regression: tuple[Task, Checkpoint, Arrays]) -> None:
    task, checkpoint, data = regression
    broken = Arrays(data.inputs.clone(), data.targets)
    broken.inputs[11, 2] = float("nan")
    with pytest.raises(NonFiniteError, match="step 10, sample 11"):
        kronecker(task, checkpoint, broken, chunk=7, rows=None, seed=0)
