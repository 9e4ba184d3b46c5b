"""Every method against a dense reference that shares no code with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.influence import reference
from tests.influence.conftest import RATES, STEPS, Run, close
from worker.influence import gradients
from worker.influence.influence_function import InfluenceFunctionOptions, share
from worker.influence.methods import METHODS
from worker.influence.score import Result
from worker.influence.trajectory import Schedule, draw_rows

EXHAUSTED = 100  # Lanczos steps; the network has fewer parameters


def diff_in(run: Run, **options: Any) -> Result:
    given = {"lanczos_steps": EXHAUSTED, "hessian_samples": None, "checkpoint_position": "end"} | options
    return run.score("diff_in", **given)


def dense_diff_in(run: Run, **how: Any) -> torch.Tensor:
    given: dict[str, Any] = {"rates": RATES, "clamp": True, "train_size": 20} | how
    return reference.diff_in(run.dense, run.query_gradients[-1], **given)


@pytest.mark.parametrize("clamp", [True, False])
def test_diff_in_is_the_recursion_stepped_one_sample_at_a_time(run: Run, clamp: bool) -> None:
    result, dense = diff_in(run, clamp=clamp), dense_diff_in(run, clamp=clamp)
    assert close(result.contributions, dense)
    assert close(result.scores, dense.sum(0))


def test_the_clamp_bites_at_both_ends_in_these_tests(run: Run) -> None:
    values = [torch.linalg.eigvalsh(state.hessians.mean(0)) for state in run.dense]
    assert any((1 - max(rates) * v < 0).any() for v, rates in zip(values, RATES, strict=True))
    assert any((v < -1e-3).any() for v in values)


def test_diff_in_with_checkpoints_in_the_middle_of_their_segments(run: Run) -> None:
    rates = [rate for segment in RATES for rate in segment]
    segments = (rates[:5], rates[5:9], [*rates[9:], 0.05, 0.05])  # bounds 0, (3+8)//2, (8+10)//2, 12
    result = diff_in(run.trained(total_steps=12), checkpoint_position="middle")
    assert close(result.contributions, dense_diff_in(run, rates=segments))


def test_diff_in_with_gauss_newton_curvature(run: Run) -> None:
    result = diff_in(run, curvature="ggn")
    assert close(result.contributions, dense_diff_in(run, curvature=lambda state: state.gauss_newton))


def test_diff_in_with_the_curvature_of_some_samples_only(run: Run) -> None:
    rows = draw_rows(13, 6, seed=3)
    result = diff_in(run, hessian_samples=6, seed=3)
    dense = dense_diff_in(run, curvature=lambda state: state.hessians[rows].mean(0))
    assert len(set(rows)) == 6
    assert close(result.contributions, dense)


def test_coupled_weight_decay_is_added_to_the_curvature(run: Run) -> None:
    result = diff_in(run.trained(weight_decay=0.3))
    assert close(result.contributions, dense_diff_in(run, ridge=0.3))


@pytest.mark.parametrize("clamp", [True, False])
def test_decoupled_weight_decay_shrinks_w_at_every_step(run: Run, clamp: bool) -> None:
    result = diff_in(run.trained(weight_decay=0.3, decoupled=True), clamp=clamp)
    assert close(result.contributions, dense_diff_in(run, decay=0.3, clamp=clamp))


def test_momentum_lengthens_the_steps(run: Run) -> None:
    longer = [[rate / (1 - 0.6) for rate in rates] for rates in RATES]
    result = diff_in(run.trained(momentum=0.6))
    assert close(result.contributions, dense_diff_in(run, rates=longer))


def test_diff_in_tells_its_largest_eigenvalue(run: Run) -> None:
    notes = diff_in(run).notes
    for note, state, rates in zip(notes, run.dense, RATES, strict=True):
        largest = float(torch.linalg.eigvalsh(state.hessians.mean(0))[-1])
        assert note["lambda_max"] == pytest.approx(largest, rel=1e-9)
        assert note["eta_lambda_max"] == pytest.approx(largest * max(rates), rel=1e-9)


@pytest.mark.parametrize("method", ["diff_in", "diff_in_eq9"])
def test_finite_differences_come_close(run: Run, method: str) -> None:
    exact = run.score(method)
    differences = run.score(method, hvp="finite_difference", epsilon=1e-4)
    assert close(differences.scores, exact.scores, 1e-5)
    assert not torch.equal(differences.scores, exact.scores)


LAST_RATES = [rates[-1] for rates in RATES]


def test_eq9_is_the_naive_loop_over_the_whole_set(run: Run) -> None:
    result = run.score("diff_in_eq9", batch="full")
    batches = [range(13)] * 3
    dense = reference.eq9(run.dense, run.query_gradients, STEPS, LAST_RATES, 20, batches)
    assert close(result.contributions, dense)
    assert result.self_influence is None


def test_eq9_self_influence_is_the_naive_loop(run: Run) -> None:
    result = run.score("diff_in_eq9", batch="full", target="self")
    dense = reference.eq9(run.dense, None, STEPS, LAST_RATES, 20, [range(13)] * 3)
    assert close(result.contributions, dense)
    assert result.self_influence is not None
    assert torch.equal(result.self_influence, result.scores)


@pytest.mark.parametrize("target", ["query", "self"])
def test_eq9_averages_its_random_batches(run: Run, target: str) -> None:
    options: dict[str, Any] = {"batch_size": 4, "batches_per_checkpoint": 3, "target": target}
    result = run.score("diff_in_eq9", seed=5, **options)
    batches = [
        [row for i in range(3) for row in draw_rows(13, 4, seed=5, stream=3 * k + i + 1)] for k in range(3)
    ]
    gradients = None if target == "self" else run.query_gradients
    dense = reference.eq9(run.dense, gradients, STEPS, LAST_RATES, 20, batches)
    assert close(result.contributions, dense)
    assert not close(run.score("diff_in_eq9", seed=6, **options).scores, dense.sum(0), 1e-2)


def test_eq9_self_influence_by_finite_differences_comes_close(run: Run) -> None:
    exact = run.score("diff_in_eq9", target="self")
    differences = run.score("diff_in_eq9", target="self", hvp="finite_difference", epsilon=1e-4)
    assert close(differences.scores, exact.scores, 1e-5)


def test_tracin_is_the_product_of_gradients(run: Run) -> None:
    rows = [
        -sum(rates) / 20 * state.gradients @ v
        for rates, state, v in zip(RATES, run.dense, run.query_gradients, strict=True)
    ]
    assert close(run.score("tracin").contributions, torch.stack(rows))


def test_loss_is_the_mean_over_checkpoints_or_the_last(run: Run) -> None:
    losses = torch.stack([state.losses for state in run.dense])
    assert close(run.score("loss").scores, losses.mean(0))
    assert close(run.score("loss", which="last").scores, losses[-1])


def test_the_influence_function_is_a_damped_newton_step(run: Run) -> None:
    state, v = run.dense[-1], run.query_gradients[-1]
    matrix = state.gauss_newton + (0.3 + 0.02) * torch.eye(len(v), dtype=v.dtype)
    dense = -state.gradients @ torch.linalg.solve(matrix, v) / 20
    result = run.trained(weight_decay=0.02).score(
        "influence_function", damping=0.3, hessian_samples=None, cg_steps=1000
    )
    assert close(result.scores, dense, 1e-5)
    assert result.notes[-1]["cg_residual"] <= 1e-6 and 0 < result.notes[-1]["cg_steps"] < 1000
    assert result.contributions[:-1].abs().max() == 0


@pytest.mark.parametrize("curvature", ["ggn", "kronecker"])
def test_the_influence_function_of_all_checkpoints_is_the_mean_over_them(run: Run, curvature: str) -> None:
    options: dict[str, Any] = {"curvature": curvature, "damping": 0.3}
    together = run.score("influence_function", checkpoints="all", **options)
    for k, row in enumerate(together.contributions):
        schedule = replace(run.schedule, steps=STEPS[: k + 1], learning_rates=RATES[: k + 1])
        until = replace(run, checkpoints=run.checkpoints[: k + 1], schedule=schedule)
        assert close(row, until.score("influence_function", **options).scores / 3, 1e-5)


def test_the_state_before_the_first_step_takes_part_where_there_is_no_other() -> None:
    everyone = InfluenceFunctionOptions(checkpoints="all")
    schedule = Schedule((0, 3, 8), ((), (0.1,) * 3, (0.1,) * 5), total_steps=None, train_size=20)
    assert [share(schedule, k, everyone) for k in range(3)] == [0, 0.5, 0.5]
    assert share(replace(schedule, steps=(0,), learning_rates=((),)), 0, everyone) == 1


def test_self_influence_is_the_gradients_square(run: Run) -> None:
    rows = [
        sum(rates) / 20 * state.gradients.square().sum(1)
        for rates, state in zip(RATES, run.dense, strict=True)
    ]
    result = run.score("self_influence")
    assert close(result.contributions, torch.stack(rows))
    assert result.self_influence is not None and torch.equal(result.self_influence, result.scores)


def test_few_gradients_at_a_time_give_the_same_norms(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.score("grad_norm").scores
    monkeypatch.setattr(gradients, "GRADIENT_BYTES", 1)
    assert close(run.score("grad_norm").scores, whole, 1e-12)


def test_grad_norm_is_the_gradients_length(run: Run) -> None:
    norms = torch.stack([state.gradients.norm(dim=1) for state in run.dense])
    assert close(run.score("grad_norm").scores, norms.mean(0))


def test_el2n_is_the_length_of_the_predictions_error(run: Run) -> None:
    rows = []
    for state in run.dense:
        outputs = torch.stack([state.output(state.theta, x) for x in state.x])
        if run.task.loss == "cross_entropy":
            wrong = outputs.softmax(1) - torch.eye(3, dtype=outputs.dtype)[state.y]
        else:
            chances = outputs.sigmoid() if run.task.loss == "bce_with_logits" else outputs
            wrong = chances - state.y.reshape(outputs.shape)
        rows.append(wrong.norm(dim=1))
    assert close(run.score("el2n").scores, torch.stack(rows).mean(0))


@pytest.mark.parametrize("method", METHODS)
def test_losses_and_predictions_come_with_every_method(run: Run, method: str) -> None:
    result = run.score(method)
    states = run.dense
    assert close(result.losses, torch.stack([state.losses for state in states]))
    outputs = torch.stack([states[-1].output(states[-1].theta, x) for x in run.train.inputs])
    expected = {
        "cross_entropy": outputs.argmax(1),
        "bce_with_logits": (outputs[:, 0] > 0).long(),
        "mse": outputs.mean(1),
    }[run.task.loss]
    assert torch.allclose(result.predictions, expected)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("diff_in", {}),
        ("diff_in", {"curvature": "ggn"}),
        ("diff_in_eq9", {}),
        ("diff_in_eq9", {"target": "self"}),
        ("tracin", {}),
        ("influence_function", {"damping": 0.5}),
        ("influence_function", {"damping": 0.5, "checkpoints": "all", "curvature": "kronecker"}),
        ("self_influence", {}),
        ("grad_norm", {}),
        ("el2n", {}),
        ("loss", {}),
        ("loss", {"which": "last"}),
    ],
)
class TestEveryMethod:
    def test_its_rows_add_up_to_its_scores(self, run: Run, method: str, options: dict[str, Any]) -> None:
        result = run.score(method, **options)
        assert result.contributions.dtype == result.scores.dtype == torch.float64
        assert torch.allclose(result.contributions.sum(0), result.scores, rtol=1e-14, atol=0)

    def test_the_size_of_a_chunk_changes_nothing(
        self, run: Run, method: str, options: dict[str, Any]
    ) -> None:
        scores = [run.score(method, chunk=chunk, **options).scores for chunk in (4, 64, None)]
        tolerance = 1e-8 if method == "influence_function" else 1e-12  # rounding grows along the iterations
        assert all(close(other, scores[0], tolerance) for other in scores[1:])

    def test_float32_agrees_to_1e_4(self, run: Run, method: str, options: dict[str, Any]) -> None:
        single = run.single().score(method, **options)
        assert close(single.scores, run.score(method, **options).scores, 1e-4)

    def test_the_same_seed_gives_the_same_bits(self, run: Run, method: str, options: dict[str, Any]) -> None:
        first, again = (run.score(method, seed=4, **options).scores for _ in range(2))
        assert torch.equal(first, again)


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_option_is_refused_by_name(one_run: Run, method: str) -> None:
    with pytest.raises(ValueError, match="colour"):
        one_run.score(method, colour=1)


@pytest.mark.parametrize("method", METHODS)
def test_the_runs_batch_size_may_come_with_every_methods_options(one_run: Run, method: str) -> None:
    assert torch.isfinite(one_run.score(method, batch_size=4).scores).all()
