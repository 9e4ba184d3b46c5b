"""Scores of image-caption pairs, whose losses take their whole group: true to retraining, and linear in N.

Three readings of what removing a pair does to its batch (worker/influence/README.md, "Losses of a group") are
held against leave-one-out retraining, each by exact steps: its own loss alone, the derivative in its weight,
and its share.

    python -m benchmarks.contrastive [--quick]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks.lab.bars import bar, parser, table
from worker.influence.evaluate import precision_at_k, spearman
from worker.influence.networks import build
from worker.influence.retraining import leave_one_out
from worker.influence.score import score
from worker.influence.task import Task, Tensors
from worker.influence.training import State, steps
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

GROUP, RATE, SEEDS = 16, 0.02, (0, 1, 2)
TWO_TOWER: dict[str, Any] = {
    "image": {"name": "mlp", "config": {"in_features": 64, "hidden": [32]}},
    "text": {
        "name": "transformer",
        "config": {"vocab_size": 17, "max_length": 3, "d_model": 16, "num_heads": 2, "num_layers": 1,
                   "dim_feedforward": 32},
    },
    "embedding_dim": 16,
    "temperature": 0.2,
}  # fmt: skip


class Own(Task):
    """A pair stays everybody's alternative."""

    def losses_and_shares(
        self, outputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        losses = self.losses_of(outputs, targets)
        return losses, losses


class Weighed(Task):
    """The derivative in a pair's weight, as a pair and as an alternative."""

    def losses_and_shares(
        self, outputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        losses, s = self.losses_of(outputs, targets), outputs.reshape(-1, outputs.shape[1], outputs.shape[1])
        own = torch.eye(s.shape[1], dtype=torch.bool)
        there, back = (t.softmax(2).masked_fill(own, 0.0).sum(1) for t in (s, s.transpose(1, 2)))
        return losses, losses + (there + back).reshape(-1) / 2


READINGS: dict[str, type[Task]] = {"own": Own, "weighed": Weighed, "share": Task}


class Pairs(NamedTuple):
    """Training pairs, some with the caption of another, and clean queries."""

    train: Arrays
    query: Arrays
    swapped: torch.Tensor  # bool [N]


def digits(seed: int, n: int, queries: int = 128) -> Pairs:
    """Digits, captioned by what they are, how much ink they take and how wide they are; a tenth swapped."""
    images, labels = load_digits(return_X_y=True)
    x, generator = torch.from_numpy(images / 16), torch.Generator().manual_seed(seed)
    columns = x.reshape(-1, 8, 8).sum(1)
    words = [torch.from_numpy(labels) + 1]
    for first, amount in ((11, x.mean(1)), (14, (columns > 0.5).sum(1) + columns.std(1))):
        thirds = torch.quantile(amount, torch.tensor([1 / 3, 2 / 3], dtype=amount.dtype))
        words.append(torch.bucketize(amount, thirds) + first)
    captions = torch.stack(words, 1)
    rows = torch.randperm(len(x), generator=generator)
    mine, asked = rows[:n], rows[n : n + queries]
    wrong = torch.randperm(n, generator=generator)[: n // 10]
    given = captions[mine]
    given[wrong] = given[wrong.roll(1)]
    swapped = (given != captions[mine]).any(1)
    return Pairs(Arrays(x[mine], given), Arrays(x[asked], captions[asked]), swapped)


@dataclass(frozen=True)
class Run:
    """A run over fixed groups, in another order each epoch, with the states after each fifth of it."""

    task: Task
    start: Tensors
    order: torch.Tensor
    trajectory: Trajectory


def trained(pairs: Pairs, seed: int, epochs: int) -> Run:
    n = len(pairs.train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build("two_tower", TWO_TOWER).double()
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    groups = torch.arange(n).reshape(-1, GROUP)
    order = torch.cat([groups[torch.randperm(len(groups), generator=generator)] for _ in range(epochs)])
    total = len(order)
    marks = [0, *(round(total * k / 5) for k in range(1, 6))]
    rates = tuple((RATE,) * (b - a) for a, b in zip([0, *marks], marks, strict=False))
    schedule = Schedule(tuple(marks), rates, None, n)
    task, states = Task(network, "clip", GROUP), {0: start}
    walk = steps(task, schedule, order, pairs.train, State(start, {}), {}, 0, total)
    for step, done in enumerate(walk, start=1):
        if step in marks:
            states[step] = done.state.params
    kept = [Checkpoint(step, own, states[step], {}) for step, own in zip(marks, rates, strict=True)]
    return Run(task, start, order, Trajectory(kept, schedule, order))


def fidelity(quick: bool) -> None:
    """Each reading against leave-one-out, and what the default makes of the swapped captions."""
    n, epochs, removed = (160, 6, 32) if quick else (256, 10, 64)
    exact: dict[str, list[float]] = {name: [] for name in READINGS}
    rows: list[Sequence[object]] = [("seed", "score", "Pearson", "Spearman", "size", "precision")]
    for seed in SEEDS:
        pairs = digits(seed, n)
        run = trained(pairs, seed, epochs)
        wrong, right = pairs.swapped.nonzero()[:, 0], (~pairs.swapped).nonzero()[:, 0]
        some = torch.cat([wrong[: removed // 4], right[: removed - removed // 4]])
        truth = leave_one_out(
            run.task, run.start, {}, pairs.train, pairs.query, order=run.order,
            rates=(RATE,) * len(run.order), removed=some.tolist(),
        )  # fmt: skip

        def against(name: str, scores: torch.Tensor, pairs: Pairs = pairs, truth: torch.Tensor = truth,
                    some: torch.Tensor = some, seed: int = seed) -> float:  # fmt: skip
            found = scores[some]
            pearson = float(torch.corrcoef(torch.stack([found, truth]))[0, 1])
            slope = float(found @ truth / (found @ found))
            precision = precision_at_k(scores, pairs.swapped, int(pairs.swapped.sum()))
            figures = (pearson, spearman(found, truth), slope, precision)
            rows.append((seed, name, *(f"{figure:.3f}" for figure in figures)))
            return pearson

        for name, kind in READINGS.items():
            task = kind(run.task.network, "clip", GROUP)
            options = {"resolution": "steps"}
            found = score("diff_in", task, run.trajectory, pairs.train, pairs.query, options=options)
            exact[name].append(against(f"steps, {name}", found.scores))
        for name, task in (
            ("segments, own", Own(run.task.network, "clip", GROUP)),
            ("segments, share", run.task),
        ):
            found = score("diff_in", task, run.trajectory, pairs.train, pairs.query)
            against(name, found.scores)
        against("mean loss", found.losses.mean(0))
    print(table(rows))
    for name, pearson in exact.items():
        print(f"{name}: mean Pearson {np.mean(pearson):.3f}, worst {min(pearson):.3f}")
    bar("contrastive.loo.pearson", float(np.mean(exact["share"])), 0.8)
    bar("contrastive.loo.over_own", float(np.mean(exact["share"]) - np.mean(exact["own"])), 0.0)


class Stored:
    """Pairs on the disk, a chunk of which is read at a time."""

    def __init__(self, folder: Path) -> None:
        self._arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("inputs", "targets")]

    def __len__(self) -> int:
        return len(self._arrays[0])

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        wanted = range(len(self)) if rows is None else rows
        for start in range(0, len(wanted), size):
            inputs, targets = (np.array(a[list(wanted[start : start + size])]) for a in self._arrays)
            yield torch.from_numpy(inputs), torch.from_numpy(targets)


def measure(folder: Path) -> None:
    """Prints the seconds a pair that one checkpoint takes, and this process's peak memory in MiB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, stored = build("two_tower", TWO_TOWER), Stored(folder)
    params = {name: p.detach() for name, p in network.named_parameters()}
    trajectory = Trajectory([Checkpoint(1, (0.1,), params, {})], Schedule((1,), ((0.1,),), None, len(stored)))
    [few] = stored.chunks(256, range(256))
    task = Task(network, "clip", 64)
    score("tracin", task, trajectory, Arrays(*few), Arrays(*few))  # warms up
    began = time.process_time()
    score("tracin", task, trajectory, stored, Arrays(*few))
    seconds = (time.process_time() - began) / len(stored)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def growth(quick: bool) -> None:
    """Time a pair and peak memory of one size against one that is eight times as large."""
    small = 8_000 if quick else 40_000
    found = []
    for n in (small, 8 * small):
        with tempfile.TemporaryDirectory() as folder:
            generator = np.random.default_rng(0)
            np.save(Path(folder) / "inputs.npy", generator.random((n, 64), dtype=np.float32))
            np.save(Path(folder) / "targets.npy", generator.integers(0, 17, (n, 3)))
            command = [sys.executable, "-m", "benchmarks.contrastive", "--measure", folder]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            found.append([float(figure) for figure in told])
    (before, memory), (after, more) = found
    print(f"{small:,} pairs: {before * 1e6:.1f} us a pair, peak {memory:.0f} MiB")
    print(f"{8 * small:,} pairs: {after * 1e6:.1f} us a pair, peak {more:.0f} MiB")
    bar("contrastive.linear", after / before, 1.2, at_least=False)
    bar("contrastive.memory", more / memory, 1.2, at_least=False)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--measure", type=Path, help="one size, in this process: the folder of the pairs")
    given = arguments.parse_args()
    if given.measure:
        measure(given.measure)
        return
    torch.set_num_threads(1)
    growth(given.quick)
    fidelity(given.quick)


if __name__ == "__main__":
    main()
