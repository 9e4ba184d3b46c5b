"""Samples that stand for the others: greedy facility location over what a run's checkpoints said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.influence.conftest import Run, make_run
from worker.influence.selection import covering as module
from worker.influence.selection.covering import Courses, courses, covering, standing_for


def distances(points: torch.Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = torch.cdist(points, points).numpy()
    return found


def test_each_taken_is_the_one_that_lowers_the_rest_the_most() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    apart, weights = distances(points), torch.rand(40, generator=generator).numpy().astype(np.float64)
    expected: list[int] = []
    nearest = np.full(40, apart.max() + 1)
    for _ in range(40):
        left = np.array([weights @ np.minimum(nearest, apart[j]) for j in range(40)])
        left[expected] = np.inf
        expected.append(int(left.argmin()))
        nearest = np.minimum(nearest, apart[expected[-1]])
    assert standing_for(apart, weights).tolist() == expected


def test_one_stands_for_all_that_are_alike_and_what_was_never_learned_waits() -> None:
    easy, hard = torch.zeros(20, 2), torch.tensor([[1.0, 0], [0, 1], [2, 2]])
    lost = torch.tensor([[-9.0, -9.0], [9.0, -9.0]])
    own = torch.cat([torch.ones(20), torch.full((3,), 0.5), torch.zeros(2)]).double()
    found = Courses(torch.cat([easy, hard, lost]), own)
    order = covering(found, np.zeros(25), 0).argsort()
    assert order[0] < 20 and set(order[1:4]) == {20, 21, 22}


def test_each_class_is_covered_by_itself_and_large_ones_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 10)
    generator = torch.Generator().manual_seed(0)
    found = Courses(torch.randn(60, 4, generator=generator), torch.ones(60).double())
    labels, told = np.repeat([0.0, 1.0], [8, 52]), list[float]()
    before = covering(found, labels, 3, told.append)
    assert sorted(told) == [8, 8, 8, 9, 9, 9, 9]
    small = standing_for(distances(found.seen[:8].double()), np.ones(8))
    assert before[:8].argsort().tolist() == small.tolist()
    assert (before < 0.5).sum() == pytest.approx(30, abs=4)  # of every part as much
    assert (covering(found, labels, 3) == before).all()


def test_a_course_is_what_each_trained_checkpoint_took_a_sample_for(one_run: Run) -> None:
    found = courses(one_run.task, [one_run.trajectory], one_run.train, chunk=7)
    each = [
        one_run.task.outputs(c.params, c.buffers, one_run.train.inputs).softmax(1)
        for c in one_run.checkpoints
    ]
    torch.testing.assert_close(found.seen, torch.cat(each, 1).float())
    rows = torch.arange(len(one_run.train))
    torch.testing.assert_close(found.own, torch.stack(each).mean(0)[rows, one_run.train.targets])


def test_long_courses_keep_their_distances_on_average(one_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def apart(seed: int) -> torch.Tensor:
        found = courses(one_run.task, [one_run.trajectory], one_run.train, chunk=7, seed=seed)
        assert found.seen.shape[1] <= module.DIMENSIONS
        return (found.seen[0] - found.seen[1:]).square().sum(1)

    exact = apart(0)
    monkeypatch.setattr(module, "DIMENSIONS", 8)  # for three classes at three checkpoints
    seen = torch.stack([apart(seed) for seed in range(100)])
    assert ((seen.mean(0) / exact - 1).abs() < 0.25).all() and not torch.equal(seen[0], seen[1])


def test_binary_samples_have_courses_too_and_others_none() -> None:
    run = make_run("bce_with_logits")
    own = courses(run.task, [run.trajectory], run.train, chunk=7).own
    told = torch.stack(
        [-run.task.losses(c.params, c.buffers, run.train.inputs, run.train.targets) for c in run.checkpoints]
    ).exp()
    torch.testing.assert_close(own, told.mean(0))
    other = make_run("mse")
    with pytest.raises(ValueError, match="no class"):
        courses(other.task, [other.trajectory], other.train, chunk=7)
