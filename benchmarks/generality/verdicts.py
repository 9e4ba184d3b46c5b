"""Does `evaluate` give the right verdict on a stable and on an unstable run?

    python -m benchmarks.generality.verdicts [--quick]

An MLP on digits, 300 samples, 12 epochs of batches of 30, at a learning rate far below the edge of stability
(0.1) and past it (1.0), 3 seeds each; 60 samples left out, one retraining each, in float64. A stable run's
scores are to be trusted (`trustworthy` or `ranking_only`), an unstable one's are not (`unreliable`).
"""

from __future__ import annotations

import torch

from benchmarks.lab.bars import bar, parser, table
from benchmarks.lab.data import load
from benchmarks.lab.training import Recipe, Run, evenly, initial, train
from worker.influence.evaluation import Evaluation, evaluate
from worker.influence.networks import build
from worker.influence.task import Task

SEEDS, SAMPLES, QUERIES, LEFT_OUT = 3, 300, 200, 60
CONFIG = {"in_features": 64, "hidden": [16], "num_classes": 10, "activation": "gelu"}
METHODS = {
    "steps": {"name": "diff_in", "resolution": "steps"},
    "diff_in": {"name": "diff_in"},
    "tracin": {"name": "tracin"},
    "influence_function": {"name": "influence_function"},
}
RATES = {"stable": 0.1, "edge": 0.5, "unstable": 1.0}
RIGHT = {"stable": ("trustworthy", "ranking_only"), "unstable": ("unreliable",)}


def trained(rate: float, seed: int, epochs: int = 12) -> Run:
    """The run with its initial state and five more kept, as checkpoints are: in float32."""
    problem = load("digits", n=SAMPLES, queries=QUERIES, seed=seed)
    start = initial(lambda: build("mlp", CONFIG), seed, torch.float32)
    task, recipe = Task(start.network, "cross_entropy"), Recipe(epochs, 30, rate)
    keep = [0, *evenly(recipe.steps(SAMPLES), 5)]
    return train(task, start.params, start.buffers, problem, recipe, seed, keep)


def judged(rate: float, seed: int, left_out: int) -> Evaluation:
    run = trained(rate, seed)
    train_data, query = run.problem.train, run.problem.query
    return evaluate(run.task, run.trajectory, train_data, query, METHODS, leave_one_out=left_out, seed=seed)


def measure(quick: bool) -> bool:
    """Prints the table of runs and the bars; whether these are all met."""
    rows = [["run", "seed", *METHODS, "rounding / effects", "η·λ", "verdict"]]
    right = dict.fromkeys(RIGHT, 0)
    for kind in RIGHT if quick else RATES:
        for seed in range(SEEDS):
            found = judged(RATES[kind], seed, LEFT_OUT // 2 if quick else LEFT_OUT)
            alone = [found.figures[name][0] for name in METHODS]
            evidence, verdict = found.evidence, found.verdict
            rows.append(
                [
                    f"{kind}, rate {RATES[kind]:g}",
                    str(seed),
                    *(f"{one.spearman:.2f}, slope {one.slope:.2g}" for one in alone if one is not None),
                    f"{evidence.floor / (evidence.spread or 1):.0e}",
                    f"{(evidence.steepest or (0.0, 0))[0]:.2f}",
                    f"{verdict.level}: {verdict.best_method}",
                ]
            )
            if kind in RIGHT:
                right[kind] += verdict.level in RIGHT[kind]
                print(f"{kind}, seed {seed}: {verdict.text}", flush=True)
    print(f"\n{table(rows)}\n")
    met = [bar(f"verdicts.{kind}", count, SEEDS) for kind, count in right.items()]
    return all(met)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure(parser(__doc__).parse_args().quick)
