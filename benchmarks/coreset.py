"""Coresets: the accuracy of networks trained on what each way of choosing keeps.

    python -m benchmarks.coreset [--quick] [--data NAME …]

digits, MNIST and CIFAR-10, labels as they are, 10 checkpoints of one run to choose by; 10, 30, 50 and 70% are
kept, each way with the same fair share of every class (`choosing.quotas`), and networks are trained again on
them for as many steps. Keeping the hardest and the easiest are both tried for each score of difficulty; the
better of the two, known only afterwards, counts as that rival. Accuracy on samples that neither training nor
the queries have seen, over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cleaning import QUERIES, SIZES, TRAINING, Case, case_of
from benchmarks.lab.bars import bar, parser, table
from benchmarks.lab.data import MissingData, skip
from benchmarks.lab.training import initial, train
from benchmarks.label_noise import network
from worker.influence.score import score
from worker.influence.selection.choosing import coreset, drawn
from worker.influence.task import Task

SHARES = (0.1, 0.3, 0.5, 0.7)
SEEDS, RETRAININGS = (40, 41, 42), 2
QUICK = (0.1, 0.5)  # shares of --quick, with one retraining each
DATA = ("digits", "mnist", "cifar10")
OURS = "**drawn by influence**"
DIFFICULTY = ("loss", "el2n", "grad_norm")
Floats = NDArray[np.float64]


def harms(case: Case) -> dict[str, list[Floats]]:
    """By way of choosing, the numbers [N] whose lowest are kept; of several, the best counts."""

    def of(method: str) -> Floats:
        run, problem = case.run, case.problem
        options = {"hessian_samples": 256} if method == "diff_in" else {}
        found = score(method, run.task, run.trajectory, problem.train, problem.query, options=options)
        return np.asarray(found.scores, dtype=np.float64)

    generator = np.random.default_rng(case.seed)
    by_method = {name: of(name) for name in ("diff_in", *DIFFICULTY)}
    found = {
        OURS: [-drawn(np.abs(by_method["diff_in"]) ** 0.5, case.seed)],
        "most influence": [-np.abs(by_method["diff_in"])],
        "least harmful": [by_method["diff_in"]],
        "random": [generator.random(len(case.wrong))],
        "forgetting": [-forgotten(case), forgotten(case)],
    }
    return found | {name: [by_method[name], -by_method[name]] for name in DIFFICULTY}


def forgotten(case: Case) -> Floats:
    """How often a sample was told right at one checkpoint and wrong at the next; never right: the most."""
    run, problem = case.run, case.problem
    with torch.no_grad():
        right = torch.stack(
            [
                torch.cat(
                    [run.task.outputs(c.params, c.buffers, part) for part in torch.split(problem.inputs, 500)]
                )
                .argmax(1)
                .eq(problem.targets)
                for c in run.trajectory.checkpoints
            ]
        )
    lost = (right[:-1] & ~right[1:]).sum(0).double()
    lost[~right.any(0)] = len(right)
    ties = np.random.default_rng(case.seed).random(len(lost)) / 2
    return lost.numpy() + ties


def accuracy(case: Case, kept: NDArray[np.int64], retrainings: int) -> float:
    """On the test samples, the mean over so many networks trained on these for the whole run's steps."""
    full, found = TRAINING[case.problem.name], []
    steps = full.steps(len(case.problem.targets))
    per_epoch = -(-len(kept) // full.batch_size)
    recipe = replace(full, epochs=max(1, round(steps / per_epoch)))
    rows = torch.from_numpy(np.sort(kept))
    problem = replace(case.problem, inputs=case.problem.inputs[rows], targets=case.problem.targets[rows])
    for number in range(retrainings):
        seed = case.seed + 500 * (number + 1)
        start = initial(lambda: network(problem), seed, torch.float32)
        task, last = Task(start.network, "cross_entropy"), recipe.steps(len(kept))
        run = train(task, start.params, start.buffers, problem, recipe, seed, [last])
        end = run.trajectory.checkpoints[-1]
        with torch.no_grad():
            parts = [
                task.outputs(end.params, end.buffers, part) for part in torch.split(case.test_inputs, 500)
            ]
        found.append(float((torch.cat(parts).argmax(1) == case.test_targets).double().mean()))
    return float(np.mean(found))


def run_data(name: str, seeds: Sequence[int], shares: Sequence[float], retrainings: int) -> None:
    """The table of one data set, and its bars."""
    every: dict[str, dict[float, list[float]]] = {}
    for seed in seeds:
        case = case_of(name, 0.0, seed)
        labels, n = case.problem.targets.numpy().astype(np.float64), len(case.problem.targets)
        for way, numbers in harms(case).items():
            for share in shares:
                best = max(
                    accuracy(case, coreset(harm, round(share * n), labels), retrainings) for harm in numbers
                )
                every.setdefault(way, {}).setdefault(share, []).append(best)
            print(name, seed, way, {share: round(v[-1], 4) for share, v in every[way].items()}, flush=True)
    rows = [[f"{name}, kept", *(f"{share:.0%}" for share in shares)]]
    rows += [[way, *(f"{np.mean(by[share]):.4f}" for share in shares)] for way, by in every.items()]
    print(f"\n{table(rows)}\n")
    for share in shares:
        ours, known = float(np.mean(every[OURS][share])), (OURS, "most influence", "least harmful")
        rival = max(float(np.mean(by[share])) for way, by in every.items() if way not in known)
        bar(f"coreset.{name}.{round(100 * share)}", ours - rival, 0)


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    asked = command.parse_args()
    torch.set_num_threads(1)
    for name in ["digits"] if asked.quick else asked.data:
        print(f"{name}: {SIZES[name].train} samples, {QUERIES} queries, {SIZES[name].test} to test on")
        try:
            run_data(name, SEEDS[:1], QUICK, 1) if asked.quick else run_data(name, SEEDS, SHARES, RETRAININGS)
        except MissingData as reason:
            skip(reason)


if __name__ == "__main__":
    main()
