"""Do the scores rank, and size, what leaving a sample out really does?

    python benchmarks/fidelity.py [--quick]

Digits, breast cancer, Adult, MNIST and CIFAR-10 (halved images) and TREC, 300 or 400 samples, 10% of the
labels wrong, in float64; logistic regression, MLP, bag of words, transformer, CNN; constant and cosine rates,
momentum. 60 samples are left out of each run, one retraining each; correlations are over these samples.

CNNs, beside: replay from 10 checkpoints against every state kept; the tail; and which estimate comes closest
to the effect to expect, the mean of leave-one-out over 6 batch orders other than those that were scored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.lab.bars import bar, bootstrap, parser, table
from benchmarks.lab.data import MissingData, Problem, load
from benchmarks.lab.training import Recipe, Run, evenly, initial, leave_one_out, regrouped, train
from worker.influence.evaluate import spearman
from worker.influence.networks import build
from worker.influence.score import score
from worker.influence.task import Task
from worker.influence.trajectory import Trajectory

REMOVED, STABLE, ORDERS, AVERAGED = 60, 0.6, 9, 3


class Setting(NamedTuple):
    data: str
    network: str
    recipe: Recipe

    def __str__(self) -> str:
        r = self.recipe
        momentum = f", momentum {r.momentum:g}" if r.momentum else ""
        return f"{self.data}, {self.network}, {r.schedule} {r.learning_rate:g}{momentum}"


def both(data: str, network: str, rate: float) -> list[Setting]:
    """Constant and cosine, and momentum with coupled weight decay at a tenth of the rate."""
    recipes = (
        Recipe(30, 40, rate),
        Recipe(30, 40, rate, schedule="cosine"),
        Recipe(30, 40, rate / 10, momentum=0.9, weight_decay=1e-3),
    )
    return [Setting(data, network, recipe) for recipe in recipes]


PLAIN = [
    setting
    for data, network, rate in (
        ("digits", "logistic", 0.5), ("digits", "mlp", 0.1), ("mnist", "logistic", 0.5),
        ("mnist", "mlp", 0.2), ("adult", "logistic", 0.1), ("adult", "mlp", 0.2),
        ("cifar10", "logistic", 0.005), ("cifar10", "mlp", 0.02),
        ("breast_cancer", "logistic", 0.02), ("breast_cancer", "mlp", 0.05),
        ("trec", "bag", 1.0), ("trec", "transformer", 0.1),
    )
    for setting in both(data, network, rate)
]  # fmt: skip
CNNS = [
    Setting("digits", "cnn, group norm", Recipe(30, 30, 0.01)),
    Setting("digits", "cnn, group norm", Recipe(30, 30, 0.001, momentum=0.9)),
    Setting("digits", "cnn, relu", Recipe(30, 30, 0.1, schedule="cosine")),
    Setting("mnist", "cnn, group norm", Recipe(20, 30, 0.01)),
    Setting("mnist", "cnn, group norm", Recipe(20, 30, 0.002, momentum=0.9, schedule="cosine")),
    Setting("cifar10", "cnn, group norm", Recipe(20, 30, 0.005)),
    Setting("cifar10", "cnn", Recipe(20, 30, 0.05, schedule="cosine")),
    Setting("cifar10", "cnn, relu", Recipe(20, 30, 0.005, momentum=0.9, schedule="cosine")),
]
EXPECTED = [CNNS[0], CNNS[3], Setting("digits", "cnn, group norm", Recipe(20, 30, 0.02)), CNNS[5]]


def network(kind: str, problem: Problem) -> Callable[[], nn.Module]:
    """Makes the registered network that `kind` names, for the problem's inputs and classes."""
    shape, classes = problem.inputs.shape[1:], problem.num_classes
    if kind == "logistic":
        return lambda: build("linear", {"in_features": shape.numel(), "num_classes": classes})
    if kind == "mlp":
        return lambda: build("mlp", {"in_features": shape.numel(), "num_classes": classes, "hidden": [32]})
    if kind in ("bag", "transformer"):
        config = {"vocab_size": problem.vocabulary, "max_length": 32, "num_classes": classes, "d_model": 16}
        config |= {"num_heads": 2, "dim_feedforward": 32, "num_layers": 0 if kind == "bag" else 1}
        return lambda: build("transformer", config | {"norm_first": True})
    norm, activation = "group" if "norm" in kind else "none", "relu" if "relu" in kind else "gelu"
    how = {"channels": [8, 16], "image_size": list(shape[1:]), "groups": 4}
    return lambda: build(
        "cnn", {"in_channels": shape[0], "num_classes": classes, "activation": activation, "norm": norm} | how
    )


def trained(setting: Setting, order: int = 0) -> Run:
    """The run with every state kept; the weights it starts from don't depend on the order."""
    small = setting.data == "breast_cancer" or setting.network.startswith("cnn")
    n, queries = (300, 250) if small else (400, 400)
    problem = load(setting.data, n=n, queries=queries).to(torch.float64)
    if setting.data in ("mnist", "cifar10"):
        problem = problem.halved()
    start = initial(network(setting.network, problem), seed=0)
    task = Task(start.network, "cross_entropy")
    return train(task, start.params, start.buffers, problem, setting.recipe, seed=order)


def left_out(run: Run) -> list[int]:
    rows: list[int] = torch.randperm(
        len(run.problem.inputs), generator=torch.Generator().manual_seed(0)
    ).tolist()
    return rows[:REMOVED]


def judged(run: Run, trajectory: Trajectory, method: str = "diff_in", **options: Any) -> torch.Tensor:
    """The scores of the samples that were left out."""
    problem = run.problem
    found = score(method, run.task, trajectory, problem.train, problem.query, options=options)
    return found.scores[left_out(run)]


def pearson(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def checkpoints(run: Run, m: int, *, first: bool = False) -> Trajectory:
    """m checkpoints at even distances, the last at the end; `first`: one of them is the start."""
    steps = len(run.rates)
    return run.kept([0, *evenly(steps, m - 1)] if first else evenly(steps, m))


def plain(settings: Sequence[Setting]) -> None:
    """Every estimate against one run's leave-one-out, and the bars of it."""
    head = ["run", "exact: Spearman / Pearson", "segments, 5", "TracIn, 5", "influence function"]
    rows, found = [head], []
    for setting in settings:
        run = trained(setting)
        truth = leave_one_out(run, left_out(run))
        five = checkpoints(run, 5)
        exact = judged(run, checkpoints(run, 6, first=True), resolution="steps")
        others = judged(run, five), judged(run, five, "tracin"), judged(run, five, "influence_function")
        figures = [spearman(one, truth) for one in (exact, *others)]
        sizes = [pearson(one, truth) for one in (exact, *others)]
        rows.append([str(setting), *(f"{a:.3f} / {b:.3f}" for a, b in zip(figures, sizes, strict=True))])
        found.append((setting, figures, sizes))
        print("|", " | ".join(rows[-1]), "|", flush=True)
    stable = [one for one in found if one[1][0] >= STABLE]
    print(
        f"\n{len(stable)} of {len(found)} runs are stable. Mean [worst] over these, Spearman and Pearson:\n"
    )
    for name, column in zip(head[1:], range(4), strict=True):
        rho, r = (np.array([one[i][column] for one in stable]) for i in (1, 2))
        print(f"- {name}: {rho.mean():.3f} [{rho.min():.3f}], {r.mean():.3f} [{r.min():.3f}]")
    shallow = [figures[1] for s, figures, _ in stable if s.network in ("logistic", "mlp")]
    bar("fidelity.exact.pearson", float(np.mean([p[0] for _, _, p in stable])), 0.95)
    bar("fidelity.segments5.spearman", float(np.mean(shallow)), 0.87)
    for name, column in (("tracin", 2), ("influence_function", 3)):
        bar(f"fidelity.segments5.over_{name}", bootstrap([f[1] - f[column] for _, f, _ in stable])[0], 0)


def cnns(settings: Sequence[Setting]) -> None:
    """Replay and tails."""
    rows, shares, same = (
        [["run", "exact", "tail of 25%, 10 checkpoints", "segments, 10", "TracIn, 10"]],
        [],
        [],
    )
    for setting in settings:
        run = trained(setting)
        truth = leave_one_out(run, left_out(run))
        ten = checkpoints(run, 10, first=True)
        kept = score("diff_in", run.task, run.trajectory, run.problem.train, run.problem.query,
                     options={"resolution": "steps"}).contributions  # fmt: skip
        replayed = score("diff_in", run.task, ten, run.problem.train, run.problem.query,
                         options={"resolution": "steps"}).contributions  # fmt: skip
        same.append(bool(torch.equal(replayed, regrouped(kept, ten.schedule.steps))))
        exact = replayed.sum(0)[left_out(run)]
        plainly = checkpoints(run, 10)
        others = judged(run, ten, resolution="tail"), judged(run, plainly), judged(run, plainly, "tracin")
        figures = [spearman(one, truth) for one in (exact, *others)]
        rows.append([str(setting), *(f"{figure:.3f}" for figure in figures)])
        if figures[0] >= STABLE:
            shares.append(figures[1] / figures[0])
    print(f"\n{table(rows)}\n\n{len(shares)} of {len(rows) - 1} runs are stable.")
    bar("fidelity.cnn.replay", float(np.mean(same)), 1)
    bar("fidelity.cnn.tail25.share", float(np.mean(shares)), 0.9)


def expected(settings: Sequence[Setting], orders: int) -> None:
    """What each says of the mean over other batch orders: a run's own would flatter its exact scores."""
    gains: dict[str, list[float]] = {}
    rows = [["run", "segments, 10", "of 3 runs", "exact, one run", "TracIn, 10", "influence function"]]
    for setting in settings:
        runs = [trained(setting, order) for order in range(orders)]
        effects = torch.stack([leave_one_out(run, left_out(run)) for run in runs])
        trios = [[(i + j) % orders for j in range(AVERAGED)] for i in range(orders)]
        truths = [effects[[o for o in range(orders) if o not in trio]].mean(0) for trio in trios]
        ten = [checkpoints(run, 10) for run in runs]
        segments = [judged(run, t) for run, t in zip(runs, ten, strict=True)]
        several = [torch.stack([segments[o] for o in trio]).mean(0) for trio in trios]
        columns = {
            "segments": segments,
            "averaged": several,
            "exact": [judged(r, checkpoints(r, 10, first=True), resolution="steps") for r in runs],
            "tracin": [judged(r, t, "tracin") for r, t in zip(runs, ten, strict=True)],
            "influence_function": [
                judged(r, t, "influence_function") for r, t in zip(runs, ten, strict=True)
            ],
        }
        found = {
            name: [spearman(one, truth) for one, truth in zip(column, truths, strict=True)]
            for name, column in columns.items()
        }
        rows.append([str(setting), *(f"{np.mean(f):.3f} [{min(f):.3f}]" for f in found.values())])
        for other in ("exact", "tracin", "influence_function"):
            pairs = zip(found["segments"], found[other], strict=True)
            gains.setdefault(f"over_{other}", []).extend(a - b for a, b in pairs)
        pairs = zip(found["averaged"], found["segments"], strict=True)
        gains.setdefault("averaged_over_one", []).extend(a - b for a, b in pairs)
    others = orders - AVERAGED
    print(f"\nSpearman with the mean of leave-one-out over {others} other orders, mean [worst]:\n")
    print(f"{table(rows)}\n")
    for name, differences in gains.items():
        bar(f"fidelity.cnn.expected.{name}", bootstrap(differences)[0], 0)


def main() -> None:
    quick = parser(__doc__).parse_args().quick
    torch.set_num_threads(1)
    try:
        plain([PLAIN[0], PLAIN[4], PLAIN[15], PLAIN[27]] if quick else [*PLAIN, *CNNS])
        cnns(CNNS[6:7] if quick else CNNS)
        expected(EXPECTED[2:3] if quick else EXPECTED, AVERAGED + 2 if quick else ORDERS)
    except MissingData as missing:
        print(f"skipped: {missing}")


if __name__ == "__main__":
    main()
