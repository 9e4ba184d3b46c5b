"""Cleaning: how many labels are wrong, and how much of the accuracy lost to them retraining wins back.

    python -m benchmarks.cleaning [--quick] [--data NAME …] [--seeds N] [--part count|recover]

digits, MNIST, TREC and CIFAR-10, labels flipped to any other class, 10 checkpoints.

1. `auto`'s estimate of how many labels are wrong, at 0 to 40% of them, over seeds.
2. 20% flips: the network is trained again on what each cleaning leaves, and tested on clean samples that
   neither training nor the queries have seen. Recovered: (cleaned - noisy)/(clean - noisy), where "clean" is
   training on the right labels. Ours proposes removal or another label, as the service does, after one round
   or two; beside it what removing all wrong ones and no others wins back, which nobody could; mean loss
   removes as many as are wrong, which it could not know; cleanlab removes the issues it
   finds by probabilities of 5 networks trained on four fifths each (DIFFIN_PEERS_VENV, by default
   .venv-peers; left out without it).
3. How often a proposed label is the right one, by confidence.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.lab.bars import bar, bootstrap, parser, table
from benchmarks.lab.data import MissingData, Problem, load, skip
from benchmarks.lab.training import Recipe, Run, evenly, initial, train
from benchmarks.label_noise import RECIPES, network
from benchmarks.rivals.environment import interpreter
from worker.influence.score import score
from worker.influence.selection.choosing import most
from worker.influence.selection.labels import SURE, mean_probabilities, suggested
from worker.influence.selection.moved import Moved, mirrorable, movable
from worker.influence.selection.noise import Estimate, most_wrong, windows
from worker.influence.selection.second import LONGER, decided, suspects
from worker.influence.suspicion import suspicion
from worker.influence.task import Task
from worker.influence.trajectory import Data

CHECKPOINTS, FOLDS, QUERIES = 10, 5, 300
RATES, RECOVERED = (0.0, 0.05, 0.1, 0.2, 0.4), 0.2
SEEDS = (30, 31, 32, 33, 34)  # not those that the second round was designed on: 60 to 63
CONFIDENCES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.8, 1.01)
TRAINING = RECIPES | {
    "digits": Recipe(epochs=30, batch_size=32, learning_rate=0.1, momentum=0.9, schedule="cosine")
}
Bools = NDArray[np.bool_]


class Size(NamedTuple):
    """Samples to train on, and to test on."""

    train: int
    test: int


SIZES = {
    "digits": Size(1000, 400),
    "mnist": Size(3000, 3000),
    "trec": Size(4000, 1600),
    "cifar10": Size(10_000, 3000),
}
CLEANLAB = """
import sys, numpy as np
from cleanlab.filter import find_label_issues
with np.load(sys.argv[1]) as given:
    np.save(sys.argv[2], find_label_issues(given["labels"], given["probabilities"], n_jobs=1))
"""


@dataclass(frozen=True)
class Case:
    """A noisy problem with clean samples to test on, and the run that was trained on it."""

    problem: Problem
    test_inputs: torch.Tensor
    test_targets: torch.Tensor
    seed: int
    run: Run

    @property
    def wrong(self) -> Bools:
        found: Bools = self.problem.flipped.numpy()
        return found


class Cleaned(NamedTuple):
    """What a cleaning leaves to train on: which samples, with which labels."""

    kept: Bools
    labels: torch.Tensor


def case_of(name: str, rate: float, seed: int, size: Size, *, halved: bool = False) -> Case:
    """Trains on noisy labels; `halved`: on images of half the size."""
    both = load(name, n=size.train, queries=QUERIES + size.test, flips=rate, seed=seed)
    both = both.halved() if halved else both
    queries = both.query_inputs[:QUERIES], both.query_targets[:QUERIES]
    problem = replace(both, query_inputs=queries[0], query_targets=queries[1])
    return Case(
        problem, both.query_inputs[QUERIES:], both.query_targets[QUERIES:], seed, trained(problem, seed)
    )


def trained(
    problem: Problem, seed: int, *, longer: int = 1, shown: Callable[[Data], Data] = lambda data: data
) -> Run:
    """In float32, CHECKPOINTS of its states kept at even distances."""
    start, recipe = initial(lambda: network(problem), seed, torch.float32), TRAINING[problem.name]
    recipe = replace(recipe, epochs=longer * recipe.epochs)
    keep = evenly(recipe.steps(len(problem.inputs)), CHECKPOINTS)
    task = Task(start.network, "cross_entropy")
    return train(task, start.params, start.buffers, problem, recipe, seed, keep, shown=shown)


def estimated(case: Case) -> Estimate:
    """As the service estimates it."""
    run, rows = case.run, range(len(case.problem.targets))
    means = [
        (
            first[0],
            mean_probabilities(run.task, [run.trajectory], case.problem.train, rows, chunk=256, first=first),
        )
        for first in windows([CHECKPOINTS])
    ]
    return most_wrong(means, case.problem.targets)


def suspected(case: Case) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(the suspicion score, the mean loss) of each sample."""
    result = score(
        "diff_in",
        case.run.task,
        case.run.trajectory,
        case.problem.train,
        case.problem.query,
        seed=case.seed,
        options={"hessian_samples": 256},
    )
    found = suspicion(result.losses, result.contributions[-1])
    return found.numpy(), result.losses.mean(0).numpy()


def proposals(case: Case, index: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """(the label to propose, its confidence) for these samples, NaN where the given one is likeliest."""
    run = case.run
    means = mean_probabilities(run.task, [run.trajectory], case.problem.train, index.tolist(), chunk=256)
    return suggested(means, case.problem.targets[index])


def ours(case: Case, suspicious: NDArray[np.float64], size: int) -> Cleaned:
    """The most suspicious removed, or given another label where the network is sure of one."""
    index, labels = most(suspicious, size), case.problem.targets.clone()
    kept = np.ones(len(labels), dtype=bool)
    kept[index] = False
    if len(index):
        other, confidence = proposals(case, index)
        sure = index[(torch.nan_to_num(confidence) >= SURE).numpy()]
        labels[sure] = other[torch.nan_to_num(confidence) >= SURE].long()
        kept[sure] = True
    return Cleaned(kept, labels)


def twice(case: Case, suspicious: NDArray[np.float64], size: int) -> Cleaned:
    """Suspects decided about by a second run, trained without them."""
    index = suspects(suspicious, size)
    if not len(index):
        return without(case, index)
    problem, every = case.problem, range(len(case.problem.targets))
    first = ours(case, suspicious, len(index))
    left = _only(problem, torch.from_numpy(first.kept), first.labels)
    again = trained(left, case.seed, longer=LONGER, shown=_shown(case))
    seen = mean_probabilities(again.task, [again.trajectory], problem.train, every, chunk=256)
    found = decided(seen, problem.targets, index)
    kept, labels = np.ones(len(problem.targets), dtype=bool), problem.targets.clone()
    relabelled = found.relabelled
    labels[index[relabelled.numpy()]] = found.label[relabelled].long()
    kept[index[~(found.acquitted | relabelled).numpy()]] = False
    return Cleaned(kept, labels)


def _shown(case: Case) -> Callable[[Data], Data]:
    """What the second run reads its samples through."""
    run, problem = case.run, case.problem
    if not movable(problem.train):
        return lambda data: data
    last = run.trajectory.checkpoints[-1]
    mirrored = mirrorable(run.task, last, problem.query, problem.targets, 256)
    return partial(Moved, seed=case.seed, mirrored=mirrored)


def without(case: Case, index: NDArray[np.int64]) -> Cleaned:
    """These samples removed."""
    kept = np.ones(len(case.problem.targets), dtype=bool)
    kept[index] = False
    return Cleaned(kept, case.problem.targets)


def cleanlab(case: Case, python: Path) -> Cleaned:
    """The issues that cleanlab finds removed."""
    problem, n = case.problem, len(case.problem.targets)
    probabilities = torch.zeros(n, problem.num_classes, dtype=torch.float64)
    parts = torch.randperm(n, generator=torch.Generator().manual_seed(case.seed)).chunk(FOLDS)
    for number, held_out in enumerate(parts):
        rows = torch.ones(n, dtype=torch.bool)
        rows[held_out] = False
        run = trained(_only(problem, rows, problem.targets), case.seed + 1000 * (number + 1))
        probabilities[held_out] = _probabilities(run, problem.inputs[held_out])
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "given.npz"), Path(folder, "found.npy")
        np.savez(given, labels=problem.targets.numpy(), probabilities=probabilities.numpy())
        subprocess.run([python, "-c", CLEANLAB, given, found], check=True)
        return without(case, np.flatnonzero(np.load(found)))


def accuracy(case: Case, cleaned: Cleaned) -> float:
    """On the test samples, of a network trained on what is left, from weights of its own."""
    problem = _only(case.problem, torch.from_numpy(cleaned.kept), cleaned.labels)
    likeliest = _probabilities(trained(problem, case.seed + 500), case.test_inputs).argmax(1)
    return float((likeliest == case.test_targets).double().mean())


def _only(problem: Problem, rows: torch.Tensor, labels: torch.Tensor) -> Problem:
    return replace(problem, inputs=problem.inputs[rows], targets=labels[rows])


def _probabilities(run: Run, inputs: torch.Tensor) -> torch.Tensor:
    last = run.trajectory.checkpoints[-1]
    with torch.no_grad():
        parts = [run.task.outputs(last.params, last.buffers, part) for part in torch.split(inputs, 500)]
    return torch.cat(parts).double().softmax(1)


def count(names: Sequence[str], seeds: Sequence[int]) -> None:
    """The first table, and its bars."""
    rows: list[list[str]] = [["wrong labels, true and estimated", *(f"{rate:.0%}" for rate in RATES)]]
    errors: list[float] = []
    on_clean: list[float] = []
    for name in names:
        cells = []
        for rate in RATES:
            shares = [estimated(case_of(name, rate, seed, SIZES[name])).share for seed in seeds]
            cells.append(f"{np.mean(shares):.1%} ({min(shares):.1%} … {max(shares):.1%})")
            if rate:
                errors += [abs(share - rate) for share in shares]
            else:
                on_clean += shares
        rows.append([name, *cells])
        print(f"{table([rows[0], rows[-1]])}\n", flush=True)
    bar("cleaning.auto.on_clean_labels", max(on_clean), 0.01, at_least=False)
    bar("cleaning.auto.mean_error", float(np.mean(errors)), 0.05, at_least=False)


def recover(names: Sequence[str], seeds: Sequence[int]) -> None:
    """The second and third table, and their bars."""
    python = interpreter()
    for name in names:
        found: dict[str, list[float]] = {}
        right: list[tuple[float, bool]] = []
        for seed in seeds:
            case = case_of(name, RECOVERED, seed, SIZES[name])
            suspicious, loss = suspected(case)
            wrong, estimate = int(case.wrong.sum()), estimated(case)
            cleanings = {
                "right labels": Cleaned(np.ones(len(case.wrong), dtype=bool), case.problem.clean),
                "as given": without(case, np.empty(0, dtype=np.int64)),
                "wrong ones removed, and no others": without(case, np.flatnonzero(case.wrong)),
                "**auto**": twice(case, suspicious, round(estimate.share * len(case.wrong))),
                "auto, one round": ours(case, suspicious, round(estimate.share * len(case.wrong))),
                "mean loss, size known": without(case, most(loss, wrong)),
            }
            if python.exists():
                cleanings["cleanlab"] = cleanlab(case, python)
            for way, cleaned in cleanings.items():
                found.setdefault(way, []).append(accuracy(case, cleaned))
            right += _right(case, most(suspicious, wrong))
            print(name, seed, {way: round(every[-1], 4) for way, every in found.items()}, flush=True)
        _report(name, found, right)


def _right(case: Case, index: NDArray[np.int64]) -> list[tuple[float, bool]]:
    """(confidence, whether it is the right label) of each proposal."""
    other, confidence = proposals(case, index)
    told = ~confidence.isnan()
    hits = other[told] == case.problem.clean[index][told]
    return list(zip(confidence[told].tolist(), hits.tolist(), strict=True))


def _report(name: str, found: dict[str, list[float]], right: list[tuple[float, bool]]) -> None:
    clean, noisy = (np.array(found[way]) for way in ("right labels", "as given"))
    lost = clean - noisy
    rows: list[list[Any]] = [[f"{name}, 20% flips", "accuracy", "recovered", "95% interval over seeds"]]
    recovered = {}
    for way, every in found.items():
        won = (np.array(every) - noisy) / lost.mean()
        recovered[way] = float(won.mean())
        low, high = bootstrap(won.tolist())
        rows.append([way, f"{np.mean(every):.4f}", f"{won.mean():.0%}", f"{low:.0%} … {high:.0%}"])
    print(f"{table(rows)}\n")
    head, cells = [f"{name}, confidence"], ["share right"]
    for low, high in pairwise(CONFIDENCES):
        hits = [hit for confidence, hit in right if low <= confidence < high]
        head.append(f"{low:.1f} to {min(high, 1):.1f}")
        cells.append(f"{np.mean(hits):.2f} of {len(hits)}" if hits else "")
    print(f"{table([head, cells])}\n")
    bar(f"cleaning.{name}.recovered", recovered["**auto**"], 0.8)
    for rival in ("mean loss, size known", "cleanlab"):
        if rival in recovered:
            code = rival.split(",")[0].replace(" ", "_")
            bar(f"cleaning.{name}.over_{code}", recovered["**auto**"] - recovered[rival], 0)


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--data", nargs="+", choices=list(SIZES), default=list(SIZES))
    command.add_argument("--seeds", type=int, choices=range(1, len(SEEDS) + 1), default=len(SEEDS))
    command.add_argument("--part", choices=["count", "recover"], help="only this one")
    asked = command.parse_args()
    torch.set_num_threads(1)
    if not interpreter().exists():
        print(f"without cleanlab: there is no {interpreter()}; DIFFIN_PEERS_VENV names its environment")
    names = ["digits"] if asked.quick else asked.data
    seeds = SEEDS[:1] if asked.quick else SEEDS[: asked.seeds]
    try:
        if asked.part != "recover":
            count(names, seeds)
        if asked.part != "count":
            recover(names, seeds)
    except MissingData as reason:
        skip(reason)


if __name__ == "__main__":
    main()
