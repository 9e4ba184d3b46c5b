"""One score for each sample and query: the dense reference asked about one query after another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.influence import reference
from tests.influence.conftest import RATES, STEPS, Run, close
from worker.influence import gradients, per_query
from worker.influence import score as scoring
from worker.influence.errors import NonFiniteError
from worker.influence.per_query import PER_QUERY
from worker.influence.score import score_queries
from worker.influence.trajectory import Arrays, draw_rows

EXACT: dict[str, dict[str, Any]] = {
    "diff_in, kronecker": {"curvature": "kronecker", "hessian_samples": None},
    "diff_in, ggn": {"curvature": "ggn", "hessian_samples": None, "lanczos_steps": 100},
    "diff_in, hessian": {"hessian_samples": None, "lanczos_steps": 100},
    "tracin": {},
    "influence_function": {"damping": 0.3, "hessian_samples": None, "cg_steps": 1000},
    "influence_function, all": {
        "checkpoints": "all",
        "damping": 0.3,
        "hessian_samples": None,
        "cg_steps": 1000,
    },
    "influence_function, kronecker": {"checkpoints": "all", "curvature": "kronecker"},
}
HESSIAN = "diff_in, hessian"  # seconds a case; one of its tests is quick
CASES = [pytest.param(case, marks=[pytest.mark.slow] if case == HESSIAN else []) for case in EXACT]


def few_steps(case: str) -> dict[str, Any]:
    """The case's options, for what holds as well where Lanczos ends early."""
    return EXACT[case] | ({"lanczos_steps": 8} if "lanczos_steps" in EXACT[case] else {})


def by_query(run: Run, method: str, *, chunk: int = 64, seed: int = 0, **options: Any) -> torch.Tensor:
    at = (run.task, run.trajectory, run.train, run.query)
    return score_queries(method, *at, seed=seed, chunk=chunk, options=options)


def dense_diff_in(run: Run, **how: Any) -> torch.Tensor:
    given: dict[str, Any] = {
        "rates": RATES, "clamp": True, "train_size": 20, "curvature": lambda state: state.gauss_newton,
    } | how  # fmt: skip
    queries = run.dense_queries[-1].gradients
    return torch.stack([reference.diff_in(run.dense, v, **given).sum(0) for v in queries], 1)


@pytest.mark.parametrize("clamp", [True, False])
def test_diff_in_with_gauss_newton_curvature(run: Run, clamp: bool) -> None:
    options = EXACT["diff_in, ggn"] | {"checkpoint_position": "end", "clamp": clamp}
    assert close(by_query(run, "diff_in", **options), dense_diff_in(run, clamp=clamp))


def test_diff_in_with_the_hessian(run: Run) -> None:
    found = by_query(run, "diff_in", **EXACT["diff_in, hessian"], checkpoint_position="end")
    assert close(found, dense_diff_in(run, curvature=lambda state: state.hessians.mean(0)))


def test_weight_decay_and_momentum_count_as_for_the_query_set(run: Run) -> None:
    options = EXACT["diff_in, ggn"] | {"checkpoint_position": "end"}
    coupled = run.trained(weight_decay=0.3, momentum=0.6)
    longer = [[rate / (1 - 0.6) for rate in rates] for rates in RATES]
    assert close(by_query(coupled, "diff_in", **options), dense_diff_in(run, ridge=0.3, rates=longer))
    decoupled = run.trained(weight_decay=0.3, decoupled=True)
    assert close(by_query(decoupled, "diff_in", **options), dense_diff_in(run, decay=0.3))


def test_the_influence_function_is_a_damped_newton_step_for_each_query(run: Run) -> None:
    state, queries = run.dense[-1], run.dense_queries[-1].gradients
    matrix = state.gauss_newton + (0.3 + 0.02) * torch.eye(queries.shape[1], dtype=queries.dtype)
    dense = -state.gradients @ torch.linalg.solve(matrix, queries.T) / 20
    found = by_query(run.trained(weight_decay=0.02), "influence_function", **EXACT["influence_function"])
    assert close(found, dense)


def test_tracin_is_the_product_of_gradients(run: Run) -> None:
    pairs = zip(RATES, run.dense, run.dense_queries, strict=True)
    dense = sum(-sum(rates) / 20 * state.gradients @ asked.gradients.T for rates, state, asked in pairs)
    assert close(by_query(run, "tracin"), torch.as_tensor(dense))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_mean_over_queries_is_the_score_on_the_query_set(run: Run, case: str, optimizer: str) -> None:
    method, options = case.split(",")[0], EXACT[case]
    trained = run.trained(optimizer=optimizer).with_state("exp_avg_sq")
    aggregate = trained.score(method, **options).scores
    tolerance = 1e-5 if method == "influence_function" else 1e-9  # where conjugate gradients end
    assert close(by_query(trained, method, **options).mean(1), aggregate, tolerance)


def test_coupled_weight_decay_under_adam_is_no_function_of_one_matrix(run: Run) -> None:
    trained = run.trained(optimizer="adam", weight_decay=0.1).with_state("exp_avg_sq")
    options = EXACT["diff_in, ggn"]
    found = by_query(trained, "diff_in", **options).mean(1)
    assert close(found, trained.score("diff_in", **options).scores)


@pytest.mark.parametrize("resolution", ["steps", "tail"])
def test_single_steps_are_taken_for_each_query(run: Run, resolution: str) -> None:
    order = torch.tensor([draw_rows(13, 4, seed=1, stream=t) for t in range(STEPS[-1])])
    options = EXACT["diff_in, ggn"] | {"resolution": resolution, "tail": 0.2}
    at = (run.task, replace(run.trajectory, order=order), run.train)
    alone = [
        scoring.score("diff_in", *at, Arrays(*one), options=options).scores for one in run.query.chunks(1)
    ]
    assert close(score_queries("diff_in", *at, run.query, options=options), torch.stack(alone, 1))


@pytest.mark.parametrize("case", CASES)
class TestEveryCase:
    def test_how_many_at_a_time_changes_nothing(
        self, one_run: Run, case: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        method, options = case.split(",")[0], few_steps(case)
        whole = by_query(one_run, method, chunk=64, **options)
        assert close(by_query(one_run, method, chunk=3, **options), whole, 1e-8)
        monkeypatch.setattr(gradients, "GRADIENT_BYTES", 1)
        monkeypatch.setattr(scoring, "QUERY_BYTES", 1)
        assert close(by_query(one_run, method, chunk=5, **options), whole, 1e-8)

    def test_float32_agrees_to_1e_4(self, run: Run, case: str) -> None:
        method, options = case.split(",")[0], EXACT[case]
        assert close(by_query(run.single(), method, **options), by_query(run, method, **options), 1e-4)

    def test_the_same_seed_gives_the_same_bits(self, one_run: Run, case: str) -> None:
        method, options = case.split(",")[0], few_steps(case)
        first, again = (by_query(one_run, method, seed=4, **options) for _ in range(2))
        assert torch.equal(first, again)


@pytest.mark.parametrize("case", ["diff_in, ggn", "influence_function"])
def test_a_network_too_large_for_a_factor_gives_the_same(
    run: Run, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, options = case.split(",")[0], EXACT[case]
    factored = by_query(run, method, **options)
    monkeypatch.setattr(per_query, "FACTOR_BYTES", 1)
    assert close(by_query(run, method, **options), factored, 1e-5)


def test_fewer_rows_than_there_are_come_close(one_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    options = EXACT["diff_in, ggn"]
    whole = by_query(one_run, "diff_in", **options)
    for most in (26, 20, 8):  # of 39: every sample's largest and the rest of it, some only, some samples only
        monkeypatch.setattr(per_query, "ROWS", most)
        few = by_query(one_run, "diff_in", **options)
        assert not close(few, whole)
        assert torch.corrcoef(torch.stack([few.flatten(), whole.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize("method", PER_QUERY)
def test_a_nan_is_told(one_run: Run, method: str) -> None:
    inputs = one_run.train.inputs.clone()
    inputs[11, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="step 10"):
        by_query(replace(one_run, train=Arrays(inputs, one_run.train.targets)), method)
    inputs = one_run.query.inputs.clone()
    inputs[2, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="step 10"):
        by_query(replace(one_run, query=Arrays(inputs, one_run.query.targets)), method)


def test_a_nan_sample_is_named(one_run: Run) -> None:
    inputs = one_run.train.inputs.clone()
    inputs[11, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="step 10, sample 11"):
        by_query(replace(one_run, train=Arrays(inputs, one_run.train.targets)), "tracin", chunk=4)


def test_a_sweep_wants_its_carry(one_run: Run) -> None:
    sweep = PER_QUERY["diff_in"].sweep
    assert sweep is not None
    at = (one_run.task, one_run.trajectory, 0, one_run.train, one_run.query)
    with pytest.raises(ValueError, match="carry of the one at checkpoint 1"):
        sweep(*at, None, seed=0, chunk=4, options={})


def test_a_method_without_scores_by_query_is_refused(one_run: Run) -> None:
    with pytest.raises(ValueError, match="known: diff_in, tracin, influence_function"):
        by_query(one_run, "el2n")
