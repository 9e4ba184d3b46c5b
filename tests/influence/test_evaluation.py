"""Scores held against retraining, whole and in pieces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.generality.verdicts import trained
from worker.influence.agreement import choose
from worker.influence.evaluation import Evaluation, Scored, conclude, evaluate
from worker.influence.order import loader_order
from worker.influence.score import score
from worker.influence.trial import Group, Trial, reproduce

METHODS = {"diff_in": {"name": "diff_in"}}


@pytest.fixture(scope="module")
def run() -> Any:
    return trained(0.1, seed=0, epochs=3)


def held(run: Any, **how: Any) -> Evaluation:
    return evaluate(run.task, run.trajectory, run.problem.train, run.problem.query, METHODS, **how)


def trial(run: Any, **how: Any) -> Trial:
    removed, stands_for = choose(5, len(run.problem.inputs), seed=0)
    given: dict[str, Any] = {"orders": [run.order], "subsets": 3} | how
    return Trial(
        run.task, run.trajectory, run.problem.train, run.problem.query, removed=removed,
        stands_for=stands_for, **given,
    )  # fmt: skip


def test_a_stable_run_is_to_be_trusted() -> None:
    found = held(trained(0.1, seed=0), leave_one_out=20, subsets=12)
    alone, subsets = found.figures["diff_in"]
    assert alone is not None and subsets is not None
    assert (alone.n, subsets.n) == (20, 12)
    assert found.verdict.level in ("trustworthy", "ranking_only")
    assert found.verdict.best_method == "diff_in"
    assert found.evidence.reproduces
    assert found.evidence.floor < 1e-12
    exact, _ = found.figures["exact"]
    assert exact is not None and exact.spearman > 0.95
    assert subsets.spearman > 0.6  # halves: what scores of single samples add up to


def test_an_unstable_run_is_not_to_be_trusted() -> None:
    found = held(trained(1.0, seed=0), leave_one_out=20)
    assert found.verdict.level == "unreliable"
    assert "Linearisation fails" in found.verdict.text
    assert "near 2 training is unstable" in found.verdict.text


def test_halves_alone_tell_of_the_ranking(run: Any) -> None:
    found = held(run, leave_one_out=0, subsets=10)
    alone, subsets = found.figures["diff_in"]
    assert alone is None and subsets is not None and subsets.n == 10
    assert found.verdict.level != "trustworthy"
    assert "against 10 half-subset retrainings of this run" in found.verdict.text


def test_groups_of_any_size_and_one_by_one_end_in_the_same_losses(run: Any) -> None:
    whole, cut, single = (
        trial(run, at_once=size, batched=batched) for size, batched in ((64, True), (2, True), (2, False))
    )
    assert whole.groups == [
        Group("rounding", 0, 0, 2),
        Group("without", 0, 0, 6),
        Group("subsets", 0, 0, 3),
    ]
    assert [group.runs for group in cut.groups if group.kind == "without"] == [
        range(2), range(2, 4), range(4, 6)
    ]  # fmt: skip
    scores = {"any": Scored(np.arange(float(len(run.problem.inputs))), this_run=False)}
    ends = [
        conclude(one, scores, {group: one.run(group) for group in one.groups}) for one in (whole, cut, single)
    ]
    for other in ends[1:]:
        np.testing.assert_allclose(other.effects, ends[0].effects, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(other.subset_losses, ends[0].subset_losses, rtol=1e-10)


def test_a_group_done_again_gives_the_same_bits(run: Any) -> None:
    group = Group("without", 0, 0, 4)
    done: list[float] = []
    first = trial(run).run(group, done.append)
    assert sum(done) == pytest.approx(4)
    np.testing.assert_array_equal(first, trial(run).run(group))


def test_the_truth_may_be_a_mean_over_other_orders(run: Any) -> None:
    n, steps = len(run.problem.inputs), len(run.order)
    others = [loader_order(n, 30, steps, seed) for seed in (11, 12)]
    each = [held(run, leave_one_out=12, orders=[order]).effects for order in others]
    both = held(run, leave_one_out=12, orders=others)
    np.testing.assert_allclose(both.effects, np.mean(each, axis=0), rtol=1e-9)
    assert both.evidence.orders == 2
    assert both.evidence.reliability is not None and 0 < both.evidence.reliability <= 1
    assert "averaged over 2 batch orders" in both.verdict.text


def test_a_run_that_comes_out_otherwise_is_told(run: Any) -> None:
    train, query = run.problem.train, run.problem.query
    again = reproduce(run.task, run.trajectory, train, query, chunk=64)
    assert again.reproduces and again.drift == 0 and again.difference == 0
    other = replace(run.trajectory, order=run.order.flip(0))
    wrong = reproduce(run.task, other, train, query, chunk=64)
    assert not wrong.reproduces and wrong.difference != 0


def test_runs_that_diverge_are_counted(run: Any) -> None:
    one = trial(run, subsets=0)
    losses = {group: one.run(group) for group in one.groups}
    broken = losses[one.groups[1]]
    broken[2] = np.nan
    scores = score("tracin", run.task, run.trajectory, run.problem.train, run.problem.query).scores.numpy()
    found = conclude(one, {"tracin": Scored(scores, this_run=False)}, losses)
    assert found.evidence.diverged == 1
    assert found.verdict.level == "unreliable" and "1 of 8 retrainings diverged" in found.verdict.text
    alone, _ = found.figures["tracin"]
    assert alone is not None and alone.n == 4
    broken[:] = torch.inf
    assert conclude(one, {"tracin": Scored(scores, this_run=False)}, losses).verdict.level == "unreliable"
