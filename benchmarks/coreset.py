"""Coresets: the accuracy of networks trained on what each way of choosing keeps.

    python -m benchmarks.coreset [--quick] [--data NAME …] [--halved] [--seeds N] [--retrainings N]

digits, MNIST and CIFAR-10, labels as they are, 10 checkpoints of one run to choose by; 10, 30, 50 and 70% are
kept, each way with the same fair share of every class (`choosing.quotas`), and networks are trained again on
them for as many steps. Keeping the hardest and the easiest are both tried for each score of difficulty; the
better of the two, known only afterwards, counts as that rival. Accuracy on samples that neither training nor
the queries have seen, over seeds. `--halved`: images of half the size, in a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cleaning import QUERIES, TRAINING, Case, Size, case_of
from benchmarks.lab.bars import bar, parser, table
from benchmarks.lab.cache import cached
from benchmarks.lab.data import MissingData, Problem, skip
from benchmarks.lab.training import Recipe, initial, train
from benchmarks.label_noise import network
from worker.influence.score import score
from worker.influence.selection.choosing import coreset, drawn
from worker.influence.selection.covering import courses, covering
from worker.influence.task import Task

SHARES: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
SEEDS, RETRAININGS = (40, 41, 42), 2  # not the seed that coverage was designed on: 43
QUICK: tuple[float, ...] = (0.1, 0.5)  # shares of --quick, with one retraining each
SIZES = {"digits": Size(1000, 400), "mnist": Size(3000, 3000), "cifar10": Size(2000, 3000)}
OURS = "**coverage**"
OTHERS = ("drawn by influence", "most influence", "least harmful")  # ours, too
DIFFICULTY = ("loss", "el2n", "grad_norm")
Floats = NDArray[np.float64]


def harms(case: Case) -> dict[str, list[Floats]]:
    """By way of choosing, the numbers [N] whose lowest are kept; of several, the best counts."""
    run, problem = case.run, case.problem

    def of(method: str) -> Floats:
        options = {"hessian_samples": 256} if method == "diff_in" else {}
        found = score(method, run.task, run.trajectory, problem.train, problem.query, options=options)
        return np.asarray(found.scores, dtype=np.float64)

    generator, labels = np.random.default_rng(case.seed), problem.targets.numpy().astype(np.float64)
    by_method = {name: of(name) for name in ("diff_in", *DIFFICULTY)}
    found = {
        OURS: [covering(courses(run.task, [run.trajectory], problem.train, chunk=500), labels, case.seed)],
        "drawn by influence": [-drawn(np.abs(by_method["diff_in"]) ** 0.5, case.seed)],
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
    """On the test samples, the mean over so many networks trained on these for as many steps. Cached."""
    full = TRAINING[case.problem.name]
    per_epoch = -(-len(kept) // full.batch_size)
    recipe = replace(full, epochs=max(1, round(full.steps(len(case.problem.targets)) / per_epoch)))
    rows = torch.from_numpy(np.sort(kept))
    problem = replace(case.problem, inputs=case.problem.inputs[rows], targets=case.problem.targets[rows])
    seeds = [case.seed + 500 * (number + 1) for number in range(retrainings)]
    return float(np.mean([float(_accuracy(case, problem, recipe, seed)) for seed in seeds]))


def _accuracy(case: Case, problem: Problem, recipe: Recipe, seed: int) -> torch.Tensor:
    """Of one network, trained by this recipe."""
    start = initial(lambda: network(problem), seed, torch.float32)
    task, last = Task(start.network, "cross_entropy"), recipe.steps(len(problem.targets))

    def compute() -> torch.Tensor:
        run = train(task, start.params, start.buffers, problem, recipe, seed, [last])
        end = run.trajectory.checkpoints[-1]
        with torch.no_grad():
            parts = [
                task.outputs(end.params, end.buffers, part) for part in torch.split(case.test_inputs, 500)
            ]
        return (torch.cat(parts).argmax(1) == case.test_targets).double().mean()

    data = (problem.inputs, problem.targets, case.test_inputs, case.test_targets)
    return cached(compute, "coreset", start.params, seed, recipe, *data)


def run_data(
    name: str, seeds: Sequence[int], shares: Sequence[float], retrainings: int, *, halved: bool = False
) -> None:
    """The table of one data set, and its bars."""
    title = f"{name}_halved" if halved else name
    every: dict[str, dict[float, list[float]]] = {}
    for seed in seeds:
        case = case_of(name, 0.0, seed, SIZES[name], halved=halved)
        labels, n = case.problem.targets.numpy().astype(np.float64), len(case.problem.targets)
        for way, numbers in harms(case).items():
            for share in shares:
                best = max(
                    accuracy(case, coreset(harm, round(share * n), labels), retrainings) for harm in numbers
                )
                every.setdefault(way, {}).setdefault(share, []).append(best)
            print(title, seed, way, {share: round(v[-1], 4) for share, v in every[way].items()}, flush=True)
    rows = [[f"{title}, kept", *(f"{share:.0%}" for share in shares)]]
    rows += [[way, *(f"{np.mean(by[share]):.4f}" for share in shares)] for way, by in every.items()]
    print(f"\n{table(rows)}\n")
    rivals = [way for way in every if way not in (OURS, *OTHERS)]
    strongest = {share: max(rivals, key=lambda way: np.mean(every[way][share])) for share in shares}
    gains = {share: np.subtract(every[OURS][share], every[strongest[share]][share]) for share in shares}
    spread = {f"{share:.0%}": (strongest[share], gains[share].round(4).tolist()) for share in shares}
    print(f"over the best rival, by seed: {spread}\n")
    for share in shares:
        bar(f"coreset.{title}.{round(100 * share)}", float(gains[share].mean()), 0)


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", nargs="+", choices=list(SIZES), default=list(SIZES))
    command.add_argument("--halved", action="store_true", help="images of half the size")
    command.add_argument("--seeds", type=int, choices=range(1, len(SEEDS) + 1), default=len(SEEDS))
    command.add_argument("--retrainings", type=int, default=RETRAININGS, help="of each choice and seed")
    asked = command.parse_args()
    seeds, times = (SEEDS[:1], 1) if asked.quick else (SEEDS[: asked.seeds], asked.retrainings)
    shares = QUICK if asked.quick else SHARES
    torch.set_num_threads(1)
    for name in ["digits"] if asked.quick else asked.data:
        print(f"{name}: {SIZES[name].train} samples, {QUERIES} queries, {SIZES[name].test} to test on")
        try:
            run_data(name, seeds, shares, times, halved=asked.halved)
        except MissingData as reason:
            skip(reason)


if __name__ == "__main__":
    main()
