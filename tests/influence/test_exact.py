"""Single steps against the derivative of the whole training run, taken through every step by autograd."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tests.influence import reference
from tests.influence.conftest import close
from worker.influence import replay, training
from worker.influence.score import Result, score
from worker.influence.task import Loss, Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

N, T, B = 11, 12, 4
KEPT = (0, 3, 7, 12)
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "coupled weight decay": {"weight_decay": 0.05},
    "momentum": {"momentum": 0.8, "weight_decay": 0.05},
    "adam": {"optimizer": "adam", "weight_decay": 0.05, "betas": (0.7, 0.9), "eps": 1e-3},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.3, "decoupled": True, "eps": 1e-3},
}


@dataclass(frozen=True)
class Trained:
    """A run of T steps trained by torch, of which the checkpoints KEPT are left."""

    task: Task
    trajectory: Trajectory
    train: Arrays
    query: Arrays
    states: list[Tensors]  # all of them, T + 1

    def score(self, **options: Any) -> Result:
        return score("diff_in", self.task, self.trajectory, self.train, self.query, chunk=3, options=options)

    def holding(self, *steps: int, **left_out: Any) -> Trained:
        """With the checkpoints at these steps only."""
        kept = [c for c in self.trajectory.checkpoints if c.step in steps]
        every = [rate for rates in self.trajectory.schedule.learning_rates for rate in rates]
        rates = tuple(tuple(every[a:b]) for a, b in zip((0, *steps), steps, strict=False))
        schedule = replace(self.trajectory.schedule, steps=steps, learning_rates=rates)
        return replace(self, trajectory=Trajectory(kept, schedule, self.trajectory.order), **left_out)


def rate(step: int) -> float:
    return 0.3 / (1 + 0.2 * step)


def trained(loss: Loss = "cross_entropy", **how: Any) -> Trained:
    torch.manual_seed(3)
    outputs = 3 if loss == "cross_entropy" else 1 if loss == "bce_with_logits" else 2
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, outputs)).double()
    task = Task(network, loss)

    def draw(n: int) -> Arrays:
        x = torch.randn(n, 4, dtype=torch.float64)
        if loss == "cross_entropy":
            return Arrays(x, torch.randint(0, 3, (n,)))
        if loss == "bce_with_logits":
            return Arrays(x, torch.randint(0, 2, (n,)).double())
        return Arrays(x, torch.randn(n, 2, dtype=torch.float64))

    train, query = draw(N), draw(5)
    order = torch.randint(0, N, (T, B))
    order[5, 2:] = -1  # a short batch
    rates = tuple(tuple(rate(t) for t in range(a, b)) for a, b in zip((0, *KEPT), KEPT, strict=False))
    schedule = Schedule(KEPT, rates, T, N, **how)
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    given: dict[str, Any] = {"lr": 1.0, "weight_decay": schedule.weight_decay}
    given |= {"momentum": schedule.momentum} if schedule.optimizer == "sgd" else {}
    given |= {} if schedule.optimizer == "sgd" else {"betas": schedule.betas, "eps": schedule.eps}
    optimizer = kinds[schedule.optimizer](network.parameters(), **given)
    states, checkpoints = [], []
    for t in range(T + 1):
        params = {name: p.detach().clone() for name, p in network.named_parameters()}
        states.append(params)
        if t in KEPT:
            memory = {
                kind: {name: optimizer.state[p][kind].clone() for name, p in network.named_parameters()}
                for kind in (training.carries(schedule) if t else ())
            }
            before = KEPT[KEPT.index(t) - 1] if t else 0
            checkpoints.append(Checkpoint(t, tuple(rate(i) for i in range(before, t)), params, {}, memory))
        if t < T:
            rows = order[t][order[t] >= 0]
            optimizer.param_groups[0]["lr"] = rate(t)
            optimizer.zero_grad()
            torch.autograd.backward(task.losses_of(network(train.inputs[rows]), train.targets[rows]).mean())
            optimizer.step()
    return Trained(task, Trajectory(checkpoints, schedule, order), train, query, states)


def unrolled(run: Trained, first: int = 0) -> torch.Tensor:
    """∂L_V(θ_T)/∂(weight of z in the batches from step `first` on), with Adam's second moment held: [N]."""
    schedule, order = run.trajectory.schedule, run.trajectory.order
    assert order is not None
    weights = torch.ones(N, dtype=torch.float64, requires_grad=True)
    params: Tensors = {name: p.clone().requires_grad_() for name, p in run.states[0].items()}
    moment = {name: torch.zeros_like(p) for name, p in params.items()}
    square = {name: torch.zeros_like(p) for name, p in params.items()}
    wd, (b1, b2) = schedule.weight_decay, schedule.betas
    for t in range(T):
        rows = order[t][order[t] >= 0]
        each = run.task.losses_of(
            functional_call(run.task.network, params, (run.train.inputs[rows],)), run.train.targets[rows]
        )
        loss = (each * (weights[rows] if t >= first else 1.0)).mean()
        found = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        for (name, p), g in zip(params.copy().items(), found, strict=True):
            if not schedule.decoupled:
                g = g + wd * p
            kept = p * (1 - rate(t) * wd) if schedule.decoupled else p
            if schedule.optimizer == "sgd":
                moment[name] = schedule.momentum * moment[name] + g
                params[name] = kept - rate(t) * moment[name]
            else:
                moment[name] = b1 * moment[name] + (1 - b1) * g
                square[name] = b2 * square[name] + (1 - b2) * g.detach() ** 2
                scale = (square[name] / (1 - b2 ** (t + 1))).sqrt() + schedule.eps
                params[name] = kept - rate(t) * moment[name] / (1 - b1 ** (t + 1)) / scale
    outputs = functional_call(run.task.network, params, (run.query.inputs,))
    return torch.autograd.grad(run.task.losses_of(outputs, run.query.targets).mean(), weights)[0]


@pytest.mark.parametrize("how", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("loss", ["cross_entropy", "bce_with_logits", "mse"])
def test_steps_are_the_derivative_of_the_run(loss: Loss, how: dict[str, Any]) -> None:
    run = trained(loss, **how)
    result = run.score(resolution="steps")
    assert close(result.scores, unrolled(run))
    assert torch.allclose(result.contributions.sum(0), result.scores, rtol=1e-14, atol=0)
    assert [note.get("exact_steps", 0) for note in result.notes] == [0, 3, 4, 5]
    assert all(note.get("replay_drift", 0) == 0 for note in result.notes)


@pytest.mark.parametrize("how", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("slots", [2, 3, 6, 100])
def test_replayed_states_are_the_runs_own_bit_for_bit(how: dict[str, Any], slots: int) -> None:
    run = trained(**how)
    parts = 1 + len(training.carries(run.trajectory.schedule))
    size = parts * sum(t.nbytes for t in run.states[0].values())
    states = replay.backwards(run.task, run.trajectory, run.train, 0, 2, T - 1, states_bytes=slots * size)
    found = dict(states)
    assert list(found) == list(range(T - 1, 1, -1))
    for step, state in found.items():
        assert all(torch.equal(state.params[name], run.states[step][name]) for name in state.params)


def test_states_kept_at_every_step_score_as_replayed_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    few = trained(momentum=0.8)
    monkeypatch.setattr("tests.influence.test_exact.KEPT", tuple(range(T + 1)))
    every = trained(momentum=0.8)
    parts = [run.score(resolution="steps").contributions for run in (few, every)]
    for row, (before, stop) in zip(parts[0], pairwise((0, *few.trajectory.schedule.steps)), strict=True):
        total = torch.zeros(N, dtype=torch.float64)
        for step in range(stop, before, -1):  # in the order in which a replay adds them up
            total = total + parts[1][step]
        assert torch.equal(row, total)


@pytest.mark.parametrize("position", ["end", "middle"])
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_the_tail_is_exact_and_what_is_before_it_in_segments(share: float, position: str) -> None:
    run, first = trained(), T - round(share * T)
    options = {"checkpoint_position": position, "lanczos_steps": 100, "hessian_samples": None}
    result = run.score(resolution="tail", tail=share, **options)
    bounds = [0, 0, 3, 7, 12] if position == "end" else [0, 1, 5, 9, 12]
    rates = [[rate(t) for t in range(a, min(b, first))] for a, b in pairwise(bounds)]
    dense = [
        reference.Dense(run.task.network, "cross_entropy", c.params, {}, run.train.inputs, run.train.targets)
        for c in run.trajectory.checkpoints
    ]
    segments = reference.diff_in(dense, adjoint_at(run, first), rates, N, clamp=True)
    assert close(result.scores, unrolled(run, first) + segments.sum(0))


def adjoint_at(run: Trained, first: int) -> torch.Tensor:
    """∂L_V(θ_T)/∂θ_first [P], by autograd through the steps in between."""
    order = run.trajectory.order
    assert order is not None
    start = {name: p.clone().requires_grad_() for name, p in run.states[first].items()}
    params: Tensors = dict(start)
    for t in range(first, T):
        rows = order[t][order[t] >= 0]
        outputs = functional_call(run.task.network, params, (run.train.inputs[rows],))
        loss = run.task.losses_of(outputs, run.train.targets[rows]).mean()
        found = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {name: p - rate(t) * g for (name, p), g in zip(params.items(), found, strict=True)}
    outputs = functional_call(run.task.network, params, (run.query.inputs,))
    loss = run.task.losses_of(outputs, run.query.targets).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(start.values()))])


def test_without_an_order_steps_fall_back_to_segments() -> None:
    run = trained()
    blind = replace(run, trajectory=replace(run.trajectory, order=None))
    assert torch.equal(blind.score(resolution="steps").scores, blind.score().scores)


def test_steps_before_the_first_checkpoint_are_a_segment() -> None:
    late = trained().holding(3, 7, 12)
    notes = late.score(resolution="steps").notes
    assert [note.get("exact_steps", 0) for note in notes] == [0, 4, 5]
    assert "lambda_max" in notes[0] and "lambda_max" not in notes[1]


def without_state(run: Trained, *steps: int) -> Trained:
    checkpoints = [replace(c, state={}) if c.step in steps else c for c in run.trajectory.checkpoints]
    return replace(run, trajectory=replace(run.trajectory, checkpoints=checkpoints))


def test_where_the_optimizers_state_is_missing_the_replay_starts_earlier() -> None:
    run = trained(momentum=0.8)
    scores = without_state(run, 3, 7, 12).score(resolution="steps").scores
    assert torch.equal(scores, run.score(resolution="steps").scores)


def test_a_run_that_can_start_nowhere_is_taken_in_segments() -> None:
    run = without_state(trained(momentum=0.8).holding(3, 7, 12), 3, 7, 12)
    assert torch.equal(run.score(resolution="steps").scores, run.score().scores)


def test_a_replay_that_ends_elsewhere_says_how_far() -> None:
    run = trained()
    moved = [
        replace(c, params={n: p + 0.01 for n, p in c.params.items()}) if c.step == 7 else c
        for c in run.trajectory.checkpoints
    ]
    astray = replace(run, trajectory=replace(run.trajectory, checkpoints=moved))
    drifts = [note.get("replay_drift") for note in astray.score(resolution="steps").notes]
    assert drifts[1] == 0 and 0 < drifts[2] < 1 and drifts[3] > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (torch.zeros(5, 4, dtype=torch.int64), "last checkpoint is at step 12"),
        (torch.full((T, B), N), "beyond the training set's 11 samples"),
        (torch.full((T, B), -1), "no sample in step 0"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(order: torch.Tensor, words: str) -> None:
    run = trained()
    with pytest.raises(ValueError, match=words):
        replace(run, trajectory=replace(run.trajectory, order=order)).score(resolution="steps")


def test_a_nan_in_single_steps_names_its_sample() -> None:
    run = trained()
    inputs = run.train.inputs.clone()
    inputs[4, 0] = float("nan")
    spoilt = replace(run, train=Arrays(inputs, run.train.targets))
    with pytest.raises(ArithmeticError, match="sample 4"):
        spoilt.score(resolution="steps")


def test_finite_differences_come_close() -> None:
    run = trained()
    scores = run.score(resolution="steps", hvp="finite_difference", epsilon=1e-4).scores
    assert close(scores, unrolled(run), 1e-6)


def test_the_preconditioner_of_a_segment_is_adams() -> None:
    """One segment, plain quadratic algebra: w ← P^-½ ψ(P^½ C P^½) P^½ w by the dense matrices."""
    run = trained(**OPTIMIZERS["adamw"]).holding(12)
    [checkpoint], schedule = run.trajectory.checkpoints, run.trajectory.schedule
    data = (run.train.inputs, run.train.targets)
    state = reference.Dense(run.task.network, "cross_entropy", checkpoint.params, {}, *data)
    queries = reference.Dense(
        run.task.network, "cross_entropy", checkpoint.params, {}, run.query.inputs, run.query.targets
    )
    squares = torch.cat([t.flatten() for t in checkpoint.state["exp_avg_sq"].values()])
    p = 1 / ((squares / (1 - schedule.betas[1] ** T)).sqrt() + schedule.eps)
    w, hessian = queries.gradients.mean(0), state.hessians.mean(0)
    dense = torch.zeros(N, dtype=torch.float64)
    for t in reversed(range(T)):
        dense -= rate(t) / N * state.gradients @ (p * w)
        w = (1 - rate(t) * schedule.weight_decay) * w - rate(t) * hessian @ (p * w)
    options = {"checkpoint_position": "end", "lanczos_steps": 100, "hessian_samples": None, "clamp": False}
    assert close(run.score(**options).scores, dense)
