"""What an influence job's blocks add up to: scores with their parts, and influences on single queries."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.store import scores
from app.store.influences import strongest
from app.store.tables import Work
from worker.job import InfluenceJob, Place

STABLE_TOPS = (20, 100)

Floats = NDArray[np.float64]
Tick = Callable[[], None]


@dataclass(frozen=True)
class Sums:
    """What the blocks add up to.

    Attributes:
        contribution: [M, N] over all runs' checkpoints: the mean over the repeats, divided by the runs, so
            that it adds up to the score.
        loss: [M, N].
        prediction: [N], at the last run's last checkpoint.
        self_influence: [N]; NaN where the method has none.
        parts: [n, N], the scores of each repeat or, where there is but one, of each run.
    """

    contribution: Floats
    loss: Floats
    prediction: Floats
    self_influence: Floats
    parts: Floats

    @property
    def standard_error(self) -> Floats | None:
        """Of the mean of `parts`; None for a single one."""
        n = len(self.parts)
        error: Floats = self.parts.std(axis=0, ddof=1) / n**0.5 if n > 1 else np.empty(0)
        return error if n > 1 else None

    @property
    def stability(self) -> dict[str, float]:
        """By k: which share of the k most harmful two parts have in common, on average."""
        found = {}
        for top in STABLE_TOPS:
            if top <= self.parts.shape[1]:
                sets = [set(np.flatnonzero(scores.ranks(part) <= top)) for part in self.parts]
                found[str(top)] = float(np.mean([len(a & b) / top for a, b in combinations(sets, 2)]))
        return found


def add_up(job: InfluenceJob, blocks: Sequence[Work], files: Mapping[str, Path], tick: Tick) -> Sums:
    """The blocks' columns added up in the order of `blocks`; `tick` is called after each."""
    n, runs, repeats = len(job.train), len(job.runs), job.asked.repeats
    m, parts = sum(len(run.checkpoints) for run in job.runs), repeats if repeats > 1 else runs
    sums = Sums(np.zeros((m, n)), np.empty((m, n)), np.empty(n), np.zeros(n), np.zeros((parts, n)))
    last = Place(0, runs - 1, len(job.runs[-1].checkpoints) - 1)
    for unit in blocks:
        place, rows = Place.of(unit.payload), slice(unit.payload["start"], unit.payload["stop"])
        values, at = np.load(files[unit.id], mmap_mode="r"), job.number(place)
        sums.contribution[at, rows] += values["contribution"] / (repeats * runs)
        sums.self_influence[rows] += values["self_influence"] / (repeats * runs)
        if repeats > 1:
            sums.parts[place.repeat, rows] += values["contribution"] / runs
        else:
            sums.parts[place.run, rows] += values["contribution"]
        if place.repeat == 0:
            sums.loss[at, rows] = values["loss"]
        if place == last:
            sums.prediction[rows] = values["prediction"]
        tick()
    return sums


def write_influences(
    job: InfluenceJob,
    blocks: Sequence[Work],
    files: Mapping[str, Path],
    matrix_path: Path,
    ranked_path: Path,
    top: int,
    tick: Tick,
) -> None:
    """Writes the influences [N, K] on each query as a `.npy`, float32, and the strongest of each column.

    Args:
        blocks: by the samples they begin with, those of the same samples in the order they are added up.
    """
    shape = len(job.train), len(job.queries)
    matrix = mapped(matrix_path, shape)
    for start, same in groupby(blocks, key=lambda unit: int(unit.payload["start"])):
        total: Floats | float = 0.0
        for unit in same:
            values = np.load(files[unit.id], mmap_mode="r")
            each = values["influences"] if shape[1] > 1 else values["contribution"][:, None]
            total = total + each.astype(np.float64) / len(job.runs)
            tick()
        matrix[start : start + len(values)] = total
    matrix.flush()
    with ranked_path.open("wb") as file:
        np.save(file, strongest(matrix, job.queries, top))


def mapped(path: Path, shape: tuple[int, int]) -> np.memmap[Any, Any]:
    """A new `.npy` of float32 zeros, to be written to by place. Raises OSError when it finds no room.

    Room is taken first: where a mapped page finds none, the process is ended (SIGBUS).
    """
    matrix = np.lib.format.open_memmap(path, "w+", np.dtype("<f4"), shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return matrix
