"""Deletion: the predicted against the true change of the query loss, and updated weights against retraining.

    python -m benchmarks.deletion [--quick]

digits, an MLP trained by plain SGD at a rate far from instability, in float64, with 5 checkpoints and its
batch order. Groups of 1% and 10% of the samples are taken out: 30 at random, and 30 that are meant to be
hard, drawn from one class, or from the most harmful or most helpful samples. The truth is training again from
the same weights in the same order without them, the batches' divisors kept.

1. Pearson between the predicted change (the sum of the scores, by single steps and by segments) and the true
   one over the groups.
2. How far from retraining the weights updated by θ + I are, the original ones, and those of gradient ascent
   (an epoch on the removed samples at the run's rate): the mean of the absolute difference over every fifth
   group, by measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.lab.bars import bar, parser, table
from benchmarks.lab.data import Problem, load
from benchmarks.lab.training import Recipe, Run, evenly, initial, train
from worker.influence.evaluate import roc_auc
from worker.influence.networks import build
from worker.influence.order import UNUSED
from worker.influence.score import score
from worker.influence.selection.deletion import influence_on_parameters
from worker.influence.task import Task, Tensors
from worker.influence.vectors import combine

SAMPLES, QUERIES, EACH = 500, 400, 30
SHARES = (0.01, 0.1)
RECIPE = Recipe(epochs=20, batch_size=50, learning_rate=0.05)
RESOLUTIONS, KINDS = ("steps", "segments"), ("random", "adversarial")
EVERY = 5  # groups, of which one has its weights updated
MEASURES = (
    "forget loss",
    "forget accuracy",
    "retain loss",
    "retain accuracy",
    "test loss",
    "test accuracy",
    "AUC",
)
TEST_LOSS = 4  # its place in MEASURES
Floats = NDArray[np.float64]


class Group(NamedTuple):
    """Samples to take out, and how they were drawn."""

    kind: str
    rows: list[int]


def trained(problem: Problem, seed: int) -> Run:
    """With the initial state and 5 more at even distances."""
    config = {"in_features": 64, "hidden": [32], "num_classes": 10, "activation": "gelu"}
    start = initial(lambda: build("mlp", config), seed)
    keep = [0, *evenly(RECIPE.steps(SAMPLES), 5)]
    return train(
        Task(start.network, "cross_entropy"), start.params, start.buffers, problem, RECIPE, seed, keep
    )


def groups(run: Run, scores: Floats, size: int, seed: int) -> list[Group]:
    """EACH at random, and EACH that are hard: of one class, of the most harmful, of the most helpful."""
    rng = np.random.default_rng(seed)
    found = [Group("random", rng.choice(SAMPLES, size, replace=False).tolist()) for _ in range(EACH)]
    by_score, labels = np.argsort(scores), run.problem.targets.numpy()
    for number in range(EACH):
        if number % 3 == 0:
            pool = np.flatnonzero(labels == number // 3 % 10)
        else:
            pool = by_score[: 2 * size] if number % 3 == 1 else by_score[-2 * size :]
        rows = rng.choice(pool, min(size, len(pool)), replace=False)
        found.append(Group("adversarial", rows.tolist()))
    return found


def retrained(run: Run, rows: Sequence[int]) -> Tensors:
    """Without these samples, from the same start in the same order, the divisors kept."""
    params, gone = dict(run.start), torch.zeros(SAMPLES, dtype=torch.bool)
    gone[list(rows)] = True
    for batch, rate in zip(run.order, run.rates, strict=True):
        used = batch[batch != UNUSED]
        left = used[~gone[used]]
        slopes = _slopes(run, params, left)
        params = {name: p - rate / len(used) * slopes[name] for name, p in params.items()}
    return params


def ascended(run: Run, rows: Sequence[int]) -> Tensors:
    """An epoch of gradient ascent on these samples, by batches, from the end of the run."""
    params = run.trajectory.checkpoints[-1].params
    for part in torch.split(torch.tensor(rows), RECIPE.batch_size):
        slopes = _slopes(run, params, part)
        params = {name: p + RECIPE.learning_rate / len(part) * slopes[name] for name, p in params.items()}
    return params


def _slopes(run: Run, params: Tensors, rows: torch.Tensor) -> Tensors:
    """Σ_z G_z over these rows."""
    if not len(rows):
        return {name: torch.zeros_like(p) for name, p in params.items()}
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    problem = run.problem
    losses = run.task.losses(leaves, run.buffers, problem.inputs[rows], problem.targets[rows])
    return dict(zip(leaves, torch.autograd.grad(losses.sum(), list(leaves.values())), strict=True))


def measured(run: Run, params: Tensors, rows: Sequence[int]) -> Floats:
    """MEASURES of the network with these weights."""
    problem, gone = run.problem, torch.zeros(SAMPLES, dtype=torch.bool)
    gone[list(rows)] = True
    with torch.no_grad():
        outputs = run.task.outputs(params, run.buffers, problem.inputs)
        on_test = run.task.outputs(params, run.buffers, problem.query_inputs)
    losses, right = run.task.losses_of(outputs, problem.targets), outputs.argmax(1) == problem.targets
    test, told = (
        run.task.losses_of(on_test, problem.query_targets),
        on_test.argmax(1) == problem.query_targets,
    )
    parts = [(losses[gone], right[gone]), (losses[~gone], right[~gone]), (test, told)]
    figures = [float(value.double().mean()) for part in parts for value in part]
    both = torch.cat([losses[gone], test])
    return np.array([*figures, roc_auc(-both, torch.arange(len(both)) < int(gone.sum()))])


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def run_share(share: float, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """({resolution/kind: Pearson}, {resolution: share of the measures it is closest in}), and prints both."""
    problem = load("digits", n=SAMPLES, queries=QUERIES, flips=0.1, seed=seed).to(torch.float64)
    run = trained(problem, seed)

    def sums(how: str) -> Floats:
        options = {"resolution": how}
        found = score("diff_in", run.task, run.trajectory, problem.train, problem.query, options=options)
        return np.asarray(found.scores, dtype=np.float64)

    by_resolution = {how: sums(how) for how in RESOLUTIONS}
    end = run.trajectory.checkpoints[-1].params
    found = groups(run, by_resolution["steps"], round(share * SAMPLES), seed)
    true: list[float] = []
    off: dict[str, list[Floats]] = {}
    for number, group in enumerate(found):
        rows = group.rows
        truth, was = measured(run, retrained(run, rows), rows), measured(run, end, rows)
        true.append(truth[TEST_LOSS] - was[TEST_LOSS])
        if number % EVERY:
            continue
        ways = {"original": end, "gradient ascent": ascended(run, rows)}
        for how in RESOLUTIONS:
            moved = influence_on_parameters(
                run.task, run.trajectory, problem.train, rows, seed=0, chunk=500, options={"resolution": how}
            )
            ways[f"θ + I, {how}"] = combine(end, 1.0, moved.params)
        for way, params in ways.items():
            off.setdefault(way, []).append(abs(measured(run, params, rows) - truth))
    figures = {
        f"{how}/{kind}": pearson(
            [-float(scores[group.rows].sum()) for group in found if group.kind == kind],
            [change for change, group in zip(true, found, strict=True) if group.kind == kind],
        )
        for how, scores in by_resolution.items()
        for kind in KINDS
    }
    lines = [[f"{share:.0%} out, seed {seed}: Pearson", *KINDS]]
    lines += [[how, *(f"{figures[f'{how}/{kind}']:.3f}" for kind in KINDS)] for how in RESOLUTIONS]
    means = {way: np.mean(values, axis=0) for way, values in off.items()}
    rows_of = [[way, *(f"{value:.4f}" for value in mean)] for way, mean in means.items()]
    print(f"{table(lines)}\n\n{table([['off retraining by', *MEASURES], *rows_of])}\n", flush=True)
    rivals = np.minimum(means["original"], means["gradient ascent"])
    closest = {how: float((means[f"θ + I, {how}"] <= rivals).mean()) for how in RESOLUTIONS}
    return figures, closest


def main() -> None:
    quick = parser(__doc__).parse_args().quick
    torch.set_num_threads(1)
    seeds = (0,) if quick else (0, 1, 2)
    for share in SHARES:
        every = [run_share(share, seed) for seed in seeds]
        for kind in KINDS:
            for how in RESOLUTIONS:
                worst = min(figures[f"{how}/{kind}"] for figures, _ in every)
                bar(f"deletion.{round(100 * share)}.{kind}.{how}.pearson", worst, 0.9)
        for how in RESOLUTIONS:
            closest = min(share_of[how] for _, share_of in every)
            bar(f"deletion.{round(100 * share)}.{how}.measures_closest", closest, 1)


if __name__ == "__main__":
    main()
