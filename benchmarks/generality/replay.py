"""Replay: states recorded at every step against those replayed from five checkpoints, and what it costs.

    python -m benchmarks.generality.replay [--quick]

Digits; a plain loop of torch's records the state after every step. From the start and five of them, the
rest is replayed with the batch order, in float32 and in float64, by SGD with momentum, Adam and AdamW, on an
MLP and on a CNN. Bars:

    replay.states.equal           share of the states in between that are the recorded ones, bit for bit
    replay.scores.max_difference  of `steps` scores from five checkpoints and from all states, added up alike
    replay.cost                   seconds of `steps` over those of the training itself, the mean of the runs
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import nn

from benchmarks.lab.bars import bar, parser, table
from benchmarks.lab.data import Problem, load
from benchmarks.lab.training import Recipe, Run, evenly, initial, regrouped, train
from worker.influence.networks import build
from worker.influence.replay import backwards
from worker.influence.score import score
from worker.influence.task import Task
from worker.influence.training import State, steps
from worker.influence.trajectory import Trajectory

KEPT = 5
COST = 6.0
REPEATS = 3  # of a timing, of which the least counts
EXACT = {"resolution": "steps"}
CNN = {"in_channels": 1, "num_classes": 10, "channels": [8, 16], "norm": "group", "groups": 4}
MLP = {"in_features": 64, "hidden": [64, 32], "num_classes": 10}


@dataclass(frozen=True)
class Case:
    """A network and how it is trained."""

    name: str
    make: Callable[[], nn.Module]
    recipe: Recipe
    dtype: torch.dtype

    @property
    def title(self) -> str:
        kind = "sgd, momentum" if self.recipe.momentum else self.recipe.optimizer
        return f"{self.name}, {kind}, {str(self.dtype).removeprefix('torch.')}"


def cases(quick: bool) -> Iterator[Case]:
    """Each network by each optimizer in each precision; quick: each optimizer once."""
    epochs = 3 if quick else 10
    recipes = (
        Recipe(epochs, 32, 0.1, momentum=0.9, weight_decay=0.001),
        Recipe(epochs, 32, 0.003, optimizer="adam"),
        Recipe(epochs, 32, 0.003, weight_decay=0.01, optimizer="adamw", schedule="cosine"),
    )
    networks = {"MLP": partial(build, "mlp", MLP), "CNN": partial(build, "cnn", CNN)}
    dtypes = (torch.float32, torch.float64)
    for at, recipe in enumerate(recipes):
        for number, (name, make) in enumerate(networks.items()):
            for dtype in dtypes:
                if not quick or (at + number) % 2 == (dtype == torch.float64):
                    yield Case(name, make, recipe, dtype)


def recorded(case: Case, problem: Problem) -> Run:
    """The run with the state after every step."""
    start = initial(case.make, 0, case.dtype)
    task = Task(start.network, "cross_entropy")
    return train(task, start.params, start.buffers, problem, case.recipe, seed=0)


def equal(run: Run, few: Trajectory) -> float:
    """Share of the states of `few`'s segments that are replayed as they were recorded."""
    found = []
    for k, (before, stop) in enumerate(pairwise(few.schedule.steps)):
        for step, state in backwards(run.task, few, run.problem.train, k, before, stop - 1):
            kept = run.trajectory.checkpoints[step]
            found.append(all(torch.equal(part, kept.params[name]) for name, part in state.params.items()))
    return sum(found) / len(found)


def seconds(act: Callable[[], object]) -> float:
    """The least of some times that `act` took."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return min(times)


def trained_again(run: Run) -> None:
    """The training itself, as jobs that train do it, nothing kept."""
    trajectory = run.trajectory
    order, start = run.order, State(run.start, {})
    for _ in steps(
        run.task, trajectory.schedule, order, run.problem.train, start, run.buffers, 0, len(order)
    ):
        pass


def measure(quick: bool) -> None:
    """Prints a table of the runs, and the bars."""
    digits = load("digits", n=200 if quick else 600, queries=100)
    rows: list[list[object]] = [["run", "steps", "states equal", "largest difference", "cost in trainings"]]
    states, differences, costs = [], [], []
    for case in cases(quick):
        run = recorded(case, digits.to(case.dtype))
        total = len(run.order)
        few = run.kept([0, *evenly(total, KEPT)])

        def scored(trajectory: Trajectory, run: Run = run) -> torch.Tensor:
            problem = run.problem
            return score(
                "diff_in", run.task, trajectory, problem.train, problem.query, options=EXACT
            ).contributions

        every = regrouped(scored(run.trajectory), few.schedule.steps)
        states.append(equal(run, few))
        differences.append(float((scored(few) - every).abs().max()))
        costs.append(seconds(partial(scored, few)) / seconds(partial(trained_again, run)))
        rows.append([case.title, total, states[-1], differences[-1], f"{costs[-1]:.1f}"])
    print(table(rows), flush=True)
    bar("replay.states.equal", min(states), 1)
    bar("replay.scores.max_difference", max(differences), 0, at_least=False)
    bar("replay.cost", sum(costs) / len(costs), COST, at_least=False)


if __name__ == "__main__":
    measure(parser(__doc__).parse_args().quick)
