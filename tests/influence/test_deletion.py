"""The weights a run would have ended with, without some of its samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.influence.conftest import Run, close
from tests.influence.reference import Dense
from tests.influence.test_exact import OPTIMIZERS, N, T, Trained, rate, trained
from worker.influence.directional import gradient
from worker.influence.retraining import repeated, retrain
from worker.influence.selection.deletion import influence_on_parameters
from worker.influence.selection.parts import Part
from worker.influence.task import Tensors
from worker.influence.trajectory import Arrays
from worker.influence.vectors import combine, flatten

GONE = [2, 5, 9]


def on_query(run: Trained | Run, moved: Tensors) -> float:
    """⟨∇L_V(θ_T), I_T⟩."""
    slope = gradient(run.task, run.trajectory.checkpoints[-1], run.query, chunk=7)
    return float(flatten(slope) @ flatten(moved))


@pytest.mark.parametrize(
    ("resolution", "optimizer"),
    [
        *(("steps", one) for one in OPTIMIZERS),
        ("tail", "sgd"),
        ("segments", "momentum"),
        ("segments", "adam"),
    ],
)
def test_it_is_the_scores_carried_forwards(resolution: str, optimizer: str) -> None:
    """The adjoint and the recursion in the parameters are one sum, added up from either end."""
    run = trained(**OPTIMIZERS[optimizer])
    options = {"resolution": resolution, "lanczos_steps": 30, "hessian_samples": None}
    scores = run.score(**options).scores
    moved = influence_on_parameters(
        run.task, run.trajectory, run.train, GONE, seed=0, chunk=N, options=options, group=False
    )
    assert moved.exact_steps == {"steps": T, "tail": T // 4, "segments": 0}[resolution]
    assert on_query(run, moved.params) == pytest.approx(-float(scores[GONE].sum()), rel=1e-6)


def test_steps_follow_the_recursion_written_out() -> None:
    run = trained()
    order = run.trajectory.order
    assert order is not None
    moved = torch.zeros(sum(p.numel() for p in run.states[0].values()), dtype=torch.float64)
    for t in range(T):
        rows = order[t][order[t] >= 0]
        dense = Dense(
            run.task.network,
            "cross_entropy",
            run.states[t],
            {},
            run.train.inputs[rows],
            run.train.targets[rows],
        )
        change = torch.zeros_like(moved)
        for z, row in enumerate(rows.tolist()):
            change += dense.gradients[z] if row in GONE else -dense.hessians[z] @ moved
        moved = moved + rate(t) / len(rows) * change
    found = influence_on_parameters(
        run.task, run.trajectory, run.train, GONE, seed=0, chunk=N, options={"resolution": "steps"}
    )
    assert close(flatten(found.params), moved)


def test_it_ends_near_where_training_without_it_ends() -> None:
    run = trained()
    assert run.trajectory.order is not None
    kept = torch.ones(1, N, dtype=torch.bool)
    kept[0, GONE[0]] = False
    rates = [rate(t) for t in range(T)]
    true = retrain(
        run.task, repeated(run.states[0], 1), {}, run.train, run.query,
        order=run.trajectory.order, rates=rates, kept=kept,
    ).mean()  # fmt: skip
    moved = influence_on_parameters(
        run.task, run.trajectory, run.train, GONE[:1], seed=0, chunk=N, options={"resolution": "steps"}
    ).params

    def loss(params: Tensors) -> float:
        return float(run.task.losses(params, {}, run.query.inputs, run.query.targets).mean())

    end = run.trajectory.checkpoints[-1].params
    was, now = loss(end), loss(combine(end, 1.0, moved))
    assert abs(now - true) < 0.1 * abs(was - true)


def test_over_segments_the_samples_left_curve_the_rest(run: Run) -> None:
    """Alone in its segment, a checkpoint's φ is that of (N - |S|)/N of the curvature of those left."""
    one = replace(run.checkpoints[0], learning_rates=(0.3, 0.2))
    schedule = replace(run.schedule, steps=(2,), learning_rates=((0.3, 0.2),), total_steps=2)
    single = replace(run, checkpoints=[one], schedule=schedule)
    dense, size = run.dense[0], run.schedule.train_size
    left = [z for z in range(len(run.train)) if z not in GONE]
    curvature = dense.hessians[left].mean(0) * (1 - len(GONE) / size)
    values, vectors = torch.linalg.eigh(curvature)
    phi = 0.2 + 0.3 * (1 - 0.2 * values).clamp(0, 1)
    own = dense.gradients[GONE].sum(0) / size
    expected = vectors @ (phi * (vectors.T @ own))
    found = influence_on_parameters(
        single.task, single.trajectory, single.train, GONE, seed=0, chunk=20,
        options={"lanczos_steps": 1000, "hessian_samples": None},
    )  # fmt: skip
    assert close(flatten(found.params), expected)


def test_a_part_gives_its_rows_with_their_labels() -> None:
    data = Arrays(torch.arange(6.0), torch.arange(6))
    part = Part(data, [4, 1, 3], {1: 7})
    assert len(part) == 3
    [(inputs, targets)] = part.chunks(5)
    assert (inputs.tolist(), targets.tolist()) == ([4, 1, 3], [4, 7, 3])
    chunks = [targets.tolist() for _, targets in part.chunks(1, [2, 1])]
    assert chunks == [[3], [7]]
    assert data.targets[1] == 1
