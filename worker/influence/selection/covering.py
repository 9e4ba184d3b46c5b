"""Samples that stand for the others: a coreset by what the network said of each in the course of training.

A sample's course is what every trained checkpoint took it for: the probabilities of all classes, one
checkpoint after the other. Within a class samples are taken one by one, each time the one that most lowers

    Σ_i w_i · min_{s taken} ‖course_i - course_s‖,   w_i = p̄_i²,

with p̄_i the mean probability of the sample's own label: greedy facility location. Easy samples have all but
the same course, so that a few stand for all of them: where the network learned its samples well, most of
what is taken is difficult. What it never learned from all of them it will not learn from fewer, and weighs
next to nothing: where that is much, most of what is taken is what it learned (docs/decisions/0042).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from worker.influence.memory import over_chunks
from worker.influence.selection.choosing import Floats, Ints
from worker.influence.selection.labels import probabilities, trained
from worker.influence.task import Task
from worker.influence.trajectory import Checkpoint, Data, Trajectory

DIMENSIONS = 128  # of a course; a longer one is seen through so many random projections
BLOCK = 2048  # samples of a class that can stand for each other; more are parted by chance
LEARNED = 2  # the power of p̄ that is a sample's weight


class Courses(NamedTuple):
    """What a run's checkpoints took each sample for.

    Attributes:
        seen: float32 [N, D].
        own: p̄, float64 [N].
    """

    seen: torch.Tensor
    own: torch.Tensor


def courses(task: Task, runs: Sequence[Trajectory], data: Data, *, chunk: int, seed: int = 0) -> Courses:
    """Of all samples, over all trained checkpoints of the runs; whole numbers in `data` are labels.

    Raises:
        ValueError: the task tells no class of a sample.
    """
    states = [run.checkpoints[k] for run in runs for k in trained(run)]
    seen, own = torch.zeros(()), torch.zeros(())
    for number, state in enumerate(states):
        parts = list(over_chunks(_told(task, state, number, len(states), seed), data, chunk))
        seen = seen + torch.cat([part for part, _ in parts])
        own = own + torch.cat([part for _, part in parts]) / len(states)
    return Courses(seen, own)


def _told(
    task: Task, state: Checkpoint, number: int, states: int, seed: int
) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """(its part of the courses [B, D], the labels' probabilities [B]) at this checkpoint of so many."""

    @torch.no_grad()
    def of(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = probabilities(task, task.outputs(state.params, state.buffers, inputs, targets))
        labels = targets.cpu().reshape(-1, 1).long()
        seen = found @ _directions(number, states, found.shape[1], seed)
        return seen.float(), found.gather(1, labels)[:, 0]

    return of


def _directions(number: int, states: int, classes: int, seed: int) -> torch.Tensor:
    """Where this checkpoint's classes stand in a course, [C, D]: each by itself, or at random."""
    if states * classes <= DIMENSIONS:
        by_itself = torch.eye(states * classes, dtype=torch.float64)
        return by_itself[number * classes : (number + 1) * classes]
    generator = torch.Generator().manual_seed(seed + number)
    drawn = torch.randn(classes, DIMENSIONS, generator=generator, dtype=torch.float64)
    return drawn / math.sqrt(DIMENSIONS)


def covering(
    found: Courses, labels: Floats, seed: int, tick: Callable[[float], None] = lambda samples: None
) -> Floats:
    """The share of its class that is taken before each sample, [N]: the lower, the more it stands for.

    Args:
        labels: as given, [N].
        seed: of how classes of more than BLOCK samples are parted.
        tick: told of what was done, in samples.
    """
    generator = np.random.default_rng(seed)
    before = np.empty(len(labels), dtype=np.float64)
    weights = found.own.numpy() ** LEARNED
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        for rows in np.array_split(generator.permutation(mine), -(-len(mine) // BLOCK)):
            rows.sort()
            order = standing_for(_distances(found.seen[torch.from_numpy(rows)].double()), weights[rows])
            before[rows[order]] = (np.arange(len(rows)) + 0.5) / len(rows)
            tick(len(rows))
    return before


def _distances(seen: torch.Tensor) -> Floats:
    found: Floats = torch.cdist(seen, seen, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    return found


def standing_for(distances: Floats, weights: Floats) -> Ints:
    """Indices [n] in the order in which samples are taken, ties by index.

    Args:
        distances: from each to each, [n, n].
        weights: [n].
    """
    n = len(weights)
    nearest = np.full(n, distances.max() + 1)  # to the closest of those taken
    gains = weights @ (nearest[:, None] - distances)
    order = np.empty(n, dtype=np.int64)
    for place in range(n):
        order[place] = taken = int(gains.argmax())
        closer = np.flatnonzero(distances[taken] < nearest)
        some, new = distances[closer], distances[taken, closer][:, None]
        lost = np.maximum(nearest[closer, None] - some, 0) - np.maximum(new - some, 0)
        gains -= weights[closer] @ lost
        gains[taken] = -np.inf
        nearest[closer] = distances[taken, closer]
    return order
