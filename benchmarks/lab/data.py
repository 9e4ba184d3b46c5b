"""Small classification problems with a known part of their labels wrong, the same for the same arguments."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

import numpy as np
import torch

from benchmarks.lab.sources import SOURCES, Ints, MissingData
from worker.influence.trajectory import Arrays

Noise = Literal["uniform", "class"]

__all__ = ["MissingData", "Noise", "Problem", "load", "skip"]


@dataclass(frozen=True)
class Problem:
    """Training samples of which some are labelled wrongly, and clean queries.

    Attributes:
        inputs: images [N, C, H, W] or features [N, F], float; token ids [N, 32], int64.
        targets: as given, flips included: int64 [N].
        clean: as they were: int64 [N].
        query_inputs, query_targets: clean, none of them in training: [Q, …], int64 [Q].
        flipped: whose target is wrong: bool [N].
        vocabulary: how many token ids there are; 0 where inputs are no tokens.
    """

    name: str
    inputs: torch.Tensor
    targets: torch.Tensor
    clean: torch.Tensor
    query_inputs: torch.Tensor
    query_targets: torch.Tensor
    flipped: torch.Tensor
    num_classes: int
    vocabulary: int = 0

    @property
    def train(self) -> Arrays:
        return Arrays(self.inputs, self.targets)

    @property
    def query(self) -> Arrays:
        return Arrays(self.query_inputs, self.query_targets)

    def to(self, dtype: torch.dtype) -> Problem:
        """The same with inputs of another floating dtype; token ids stay."""
        if not self.inputs.is_floating_point():
            return self
        return replace(self, inputs=self.inputs.to(dtype), query_inputs=self.query_inputs.to(dtype))

    def halved(self) -> Problem:
        """The same with images of half the height and width, each pixel the mean of four."""
        pool = torch.nn.functional.avg_pool2d
        return replace(self, inputs=pool(self.inputs, 2), query_inputs=pool(self.query_inputs, 2))


def load(
    name: str, *, n: int, queries: int, flips: float = 0.1, seed: int = 0, noise: Noise = "uniform"
) -> Problem:
    """`n` training samples and `queries` clean ones, drawn by `seed`; float32.

    Args:
        name: digits, breast_cancer, mnist, adult, trec or cifar10.
        queries: from the test part where there is one, and from the training samples not drawn where it is
            used up or there is none.
        flips: share of the training labels made wrong.
        noise: a flipped label is, "uniform", any other class, or, "class", the one after its own, as if these
            two were easily confused.

    Raises:
        MissingData: its file is not there.
        ValueError: it has not so many samples.
    """
    read, arrange = SOURCES[name]
    source = read()
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(source.labels))
    train, rest = drawn[:n], drawn[n:]
    query_items, query_labels = source.items[rest[:queries]], source.labels[rest[:queries]]
    if source.test_labels is not None and source.test_items is not None:
        tested = rng.permutation(len(source.test_labels))[:queries]
        query_items = np.concatenate([source.test_items[tested], query_items])[:queries]
        query_labels = np.concatenate([source.test_labels[tested], query_labels])[:queries]
    if len(train) < n or len(query_labels) < queries:
        raise ValueError(f"{name} has no {n} training samples and {queries} queries")
    clean, classes = source.labels[train], int(source.labels.max()) + 1
    given = _flip(clean, flips, noise, classes, rng)
    arranged = arrange(source.items[train], query_items)
    return Problem(
        name,
        torch.from_numpy(arranged.train),
        torch.from_numpy(given),
        torch.from_numpy(clean),
        torch.from_numpy(arranged.query),
        torch.from_numpy(query_labels),
        torch.from_numpy(given != clean),
        classes,
        arranged.vocabulary,
    )


def skip(reason: MissingData) -> NoReturn:
    """Ends a benchmark whose data is not there, saying so."""
    print(f"skipped: {reason}")
    sys.exit(0)


def _flip(clean: Ints, share: float, noise: Noise, classes: int, rng: np.random.Generator) -> Ints:
    """`clean` with round(share · N) of its labels made wrong."""
    rows = rng.choice(len(clean), round(share * len(clean)), replace=False)
    moves = rng.integers(1, classes, len(rows)) if noise == "uniform" else np.ones(len(rows), dtype=np.int64)
    given = clean.copy()
    given[rows] = (given[rows] + moves) % classes
    return given
