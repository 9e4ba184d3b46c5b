"""Losses that need the batch, against their definition written out pair by pair."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.func import functional_call, hessian, jvp

from tests.influence.conftest import close
from tests.influence.pairs import GROUP, PairRun, pair_run
from worker.influence import contrastive, dual
from worker.influence.retraining import leave_one_out
from worker.influence.score import score, score_queries
from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory, draw_rows


@pytest.fixture(scope="module")
def run() -> PairRun:
    return pair_run()


def test_losses_and_shares_are_those_written_out_pair_by_pair(run: PairRun) -> None:
    reference, checkpoint = run.reference(1, run.train), run.trajectory.checkpoints[1]
    shares = torch.stack(
        [reference.share(reference.theta, z, rows) for rows in reference.groups for z in rows]
    )
    losses = run.task.losses(checkpoint.params, {}, run.train.inputs, run.train.targets)
    outputs = [
        run.task.outputs(checkpoint.params, {}, run.train.inputs[part], run.train.targets[part])
        for part in (slice(0, 8), slice(8, 10))
    ]
    assert close(losses, reference.losses, 1e-12)
    assert close(torch.cat([contrastive.shares(s) for s in outputs]), shares, 1e-12)


def test_a_share_is_right_where_one_alternative_takes_nearly_all_the_chance() -> None:
    """1 - p cancels to nothing there."""
    s = torch.tensor([[0.0, 60.0, -1.0], [60.0, 0.0, 1.0], [0.5, -2.0, 0.0]], dtype=torch.float64)
    without = torch.stack([_total(s, [i for i in range(3) if i != z]) for z in range(3)])
    assert close(contrastive.shares(s), _total(s, [0, 1, 2]) - without, 1e-12)
    slope = torch.func.grad(lambda s: contrastive.shares(s)[2])(s)
    exact = torch.func.grad(lambda s: _total(s, [0, 1, 2]) - _total(s, [0, 1]))(s)
    assert close(slope, exact)


def _total(s: torch.Tensor, rows: list[int]) -> torch.Tensor:
    part = s[rows][:, rows]
    return ((part.logsumexp(1) + part.logsumexp(0)) / 2 - part.diagonal()).sum()


@pytest.mark.parametrize("function", [contrastive.losses, contrastive.shares])
def test_dual_numbers_have_rules_for_all_that_the_loss_does(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    generator = torch.Generator().manual_seed(0)
    s, u, w = (torch.randn(8, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    first = dual.jvp(lambda p: (function(p["s"]), None), ({"s": s},), ({"s": u},))[1]
    assert close(first, jvp(function, (s,), (u,))[1], 1e-12)

    def slope(p: dict[str, torch.Tensor]) -> tuple[torch.Tensor, None]:
        return dual.jvp(lambda q: (function(q["s"]), None), (p,), ({"s": u},))[1], None

    second = dual.jvp(slope, ({"s": s},), ({"s": w},))[1]
    assert close(second, jvp(lambda x: jvp(function, (x,), (u,))[1], (s,), (w,))[1], 1e-12)


def test_tracin_follows_what_each_pair_adds_to_its_group(run: PairRun) -> None:
    expected = [
        -sum(rates) / 12 * run.reference(k, run.train).share_gradients @ run.reference(k, run.query).gradient
        for k, rates in enumerate(run.trajectory.schedule.learning_rates)
    ]
    found = score("tracin", run.task, run.trajectory, run.train, run.query, chunk=4)
    assert close(found.contributions, torch.stack(expected))
    assert close(found.losses[1], run.reference(1, run.train).losses)


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_diff_in_is_the_recursion_with_whole_groups(run: PairRun, curvature: str) -> None:
    w = run.reference(1, run.query).gradient
    rows: list[torch.Tensor] = []
    for k in (1, 0):
        reference = run.reference(k, run.train)
        matrix = reference.hessian() if curvature == "hessian" else reference.gauss_newton()
        row = torch.zeros(10, dtype=torch.float64)
        for rate in reversed(run.trajectory.schedule.learning_rates[k]):
            row -= rate / 12 * reference.share_gradients @ w
            w = w - rate * matrix @ w
        rows.insert(0, row)
    found = score(
        "diff_in", run.task, run.trajectory, run.train, run.query, chunk=4,
        options={"curvature": curvature, "clamp": False, "lanczos_steps": 22, "checkpoint_position": "end"},
    )  # fmt: skip
    assert close(found.contributions, torch.stack(rows))


def test_the_influence_function_has_the_gauss_newton_matrix_of_the_logits(run: PairRun) -> None:
    reference = run.reference(1, run.train)
    matrix = reference.gauss_newton() + 0.01 * torch.eye(len(reference.theta), dtype=torch.float64)
    x = torch.linalg.solve(matrix, run.reference(1, run.query).gradient)
    found = score("influence_function", run.task, run.trajectory, run.train, run.query, chunk=8)
    assert close(found.scores, -reference.share_gradients @ x / 12, 1e-6)  # as far as conjugate gradients go


def test_eq9_draws_whole_groups(run: PairRun) -> None:
    options = {"batch_size": GROUP}
    found = score("diff_in_eq9", run.task, run.trajectory, run.train, run.query, chunk=4, options=options)
    expected = []
    for k, (step, rates) in enumerate(zip((3, 5), run.trajectory.schedule.learning_rates, strict=True)):
        reference, v = run.reference(k, run.train), run.reference(k, run.query).gradient
        rows = draw_rows(10, GROUP, seed=0, stream=k + 1, group=GROUP)
        g = torch.func.grad(reference.mean)(reference.theta, [rows])
        hv = reference.hessian([rows]) @ v
        bracket = reference.share_gradients @ hv + torch.stack(
            [
                v @ hessian(reference.share)(reference.theta, z, own) @ g
                for own in reference.groups
                for z in own
            ]
        )
        expected.append(-step * rates[-1] ** 2 / (12 * 2) * bracket)
    assert close(found.contributions, torch.stack(expected))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_exact_steps_are_the_derivative_of_the_run_in_each_pairs_share(run: PairRun, momentum: float) -> None:
    """The batches are groups as the order has them; the last of an epoch is shorter."""
    order = torch.tensor([[0, 7, 3, 9], [5, 1, 8, 2], [4, 6, -1, -1], [9, 1, 2, 5]])
    rates, network = (0.4, 0.1, 0.3, 0.2), run.task.network
    start = run.trajectory.checkpoints[0].params

    def outputs(params: dict[str, torch.Tensor], data: Arrays, rows: list[int]) -> torch.Tensor:
        image, text, scale = functional_call(network, params, (data.inputs[rows], data.targets[rows]))
        found: torch.Tensor = scale * image @ text.T
        return found

    weights = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    params = {n: p.clone().requires_grad_() for n, p in start.items()}
    carried: list[torch.Tensor] = []
    for batch, rate in zip(order, rates, strict=True):
        rows = [row for row in batch.tolist() if row >= 0]
        s, everyone = outputs(params, run.train, rows), list(range(len(rows)))
        full = _total(s, everyone)
        extra = [
            weights[row] * (full - _total(s, [i for i in everyone if i != at])) for at, row in enumerate(rows)
        ]
        loss = (full + torch.stack(extra).sum()) / len(rows)
        slopes = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        before = carried or [torch.zeros_like(g) for g in slopes]
        carried = [momentum * b + g for b, g in zip(before, slopes, strict=True)]
        params = {n: p - rate * b for (n, p), b in zip(params.items(), carried, strict=True)}
    query = torch.stack(
        [_total(outputs(params, run.query, rows), list(range(len(rows)))) for rows in ([0, 1, 2, 3], [4, 5])]
    )
    expected = torch.autograd.grad(query.sum() / 6, weights)[0]
    end = Checkpoint(4, rates, {n: p.detach() for n, p in params.items()}, {})
    schedule = Schedule((0, 4), ((), rates), None, train_size=10, momentum=momentum)
    trajectory = Trajectory([Checkpoint(0, (), start, {}), end], schedule, order)
    found = score(
        "diff_in", run.task, trajectory, run.train, run.query, chunk=4, options={"resolution": "steps"}
    )
    assert close(found.scores, expected)
    assert found.notes[1]["replay_drift"] < 1e-12


def test_chunks_of_any_size_are_cut_at_whole_groups(run: PairRun) -> None:
    sizes = (1, 4, 7, 8, 100)
    found = [score("diff_in", run.task, run.trajectory, run.train, run.query, chunk=chunk) for chunk in sizes]
    assert torch.equal(found[0].scores, found[1].scores)
    assert all(close(each.scores, found[0].scores, 1e-12) for each in found)
    assert all(torch.equal(each.predictions, found[0].predictions) for each in found)


def test_el2n_looks_both_ways(run: PairRun) -> None:
    checkpoint = run.trajectory.checkpoints[1]
    s = run.task.outputs(checkpoint.params, {}, run.train.inputs[:4], run.train.targets[:4])
    truth = torch.eye(4, dtype=torch.float64)
    there, back = s.softmax(1) - truth, s.T.softmax(1) - truth
    only = Trajectory([checkpoint], Schedule((5,), ((0.1,) * 5,), None, 12))
    found = score("el2n", run.task, only, run.train, chunk=4)
    assert close(found.scores[:4], ((there.norm(dim=1) ** 2 + back.norm(dim=1) ** 2) / 2).sqrt())


@pytest.mark.parametrize(
    ("method", "options"),
    [("grad_norm", {}), ("self_influence", {}), ("diff_in_eq9", {"target": "self"})],
)
def test_gradients_of_single_pairs_are_refused(run: PairRun, method: str, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="takes a whole group"):
        score(method, run.task, run.trajectory, run.train, run.query, options=options)
    with pytest.raises(ValueError, match="takes a whole group"):
        score_queries("tracin", run.task, run.trajectory, run.train, run.query)


def test_a_pair_left_out_is_nobodys_alternative(run: PairRun) -> None:
    """Retraining side by side, as `evaluate` does it, is training without the pair."""
    order, rates = torch.tensor([[0, 7, 3, 9], [5, 1, 8, 2], [4, 6, -1, -1]]), (0.4, 0.1, 0.3)
    start = run.trajectory.checkpoints[0].params
    found = leave_one_out(run.task, start, {}, run.train, run.query, order=order, rates=rates, removed=[3, 4])

    def trained(left_out: int | None) -> torch.Tensor:
        params = dict(start)
        for batch, rate in zip(order, rates, strict=True):
            present = [row for row in batch.tolist() if row >= 0]
            rows = [row for row in present if row != left_out]
            alone = run.task.of_batch(len(rows))
            x, y = run.train.inputs[rows], run.train.targets[rows]
            slope = torch.func.grad(lambda p, alone=alone, x=x, y=y: alone.losses(p, {}, x, y).sum())(params)
            params = {name: p - rate * slope[name] / len(present) for name, p in params.items()}
        return run.task.losses(params, {}, run.query.inputs, run.query.targets).mean()

    assert close(found, torch.stack([trained(None) - trained(z) for z in (3, 4)]), 1e-12)


def test_only_losses_in_groups_have_groups(run: PairRun) -> None:
    with pytest.raises(ValueError, match="no groups"):
        Task(run.task.network, "mse", 4)
    with pytest.raises(ValueError, match="whole number of groups"):
        run.task.outputs(run.trajectory.checkpoints[0].params, {}, run.train.inputs, run.train.targets)
