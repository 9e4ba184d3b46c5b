"""The data sets of the head-to-head, each with a network of linear and convolution layers, which all take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks.lab.data import Problem, load
from benchmarks.lab.sources import PAD
from benchmarks.lab.training import Recipe
from worker.influence.networks import build

SHIFTED, FLIPPED = 4000, 409


@dataclass(frozen=True)
class Setting:
    """A data set, a registered network and how it is trained.

    Attributes:
        problem: its `queries` are what single scores are asked for.
        network, config: as `worker.influence.networks.build` takes them.
    """

    name: str
    problem: Problem
    network: str
    config: Mapping[str, Any]
    recipe: Recipe

    def make(self) -> nn.Module:
        return build(self.network, self.config)


def shifted_digits(seed: int, n: int = SHIFTED, queries: int = 400) -> Problem:
    """`n` images, each a digit moved by up to one pixel both ways, 409 in 4,000 of them with a wrong label.

    Queries are digits none of which is among those that were moved for training, moved likewise.
    """
    digits = load("digits", n=1797 - queries, queries=queries, flips=0.0, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(digits.inputs), (n,), generator=generator)
    clean = digits.targets[rows]
    flipped = torch.zeros(n, dtype=torch.bool)
    flipped[torch.randperm(n, generator=generator)[: round(FLIPPED * n / SHIFTED)]] = True
    moves = torch.randint(1, digits.num_classes, (n,), generator=generator)
    return replace(
        digits,
        inputs=_shifted(digits.inputs[rows], generator),
        targets=torch.where(flipped, (clean + moves) % digits.num_classes, clean),
        clean=clean,
        query_inputs=_shifted(digits.query_inputs, generator),
        flipped=flipped,
    )


def _shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images [N, C, H, W], each moved by -1, 0 or 1 pixel in both directions; zeros come in."""
    height, width = images.shape[2:]
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    offsets = torch.randint(0, 3, (len(images), 2), generator=generator).tolist()
    moved = [image[:, i : i + height, j : j + width] for image, (i, j) in zip(padded, offsets, strict=True)]
    return torch.stack(moved)


def weighted_words(problem: Problem) -> Problem:
    """Token ids as tf-idf features [N, V] of length 1, the document frequencies from the training part.

    A bag of words is what every peer takes: kronfluence knows neither embeddings nor attention.
    """

    def counts(tokens: torch.Tensor) -> torch.Tensor:
        table = torch.zeros(len(tokens), problem.vocabulary)
        return table.scatter_add_(1, tokens, (tokens != PAD).float())

    train, query = counts(problem.inputs), counts(problem.query_inputs)
    idf = torch.log((1 + len(train)) / (1 + (train > 0).sum(0))) + 1
    train, query = (nn.functional.normalize(part * idf, dim=1) for part in (train, query))
    return replace(problem, inputs=train, query_inputs=query, vocabulary=0)


def digits(seed: int, quick: bool) -> Setting:
    problem = shifted_digits(seed, *((1000, 100) if quick else (SHIFTED, 400)))
    config = {
        "in_channels": 1,
        "num_classes": 10,
        "channels": [16, 32],
        "image_size": [8, 8],
        "hidden": [240],
    }
    return Setting("digits", problem, "cnn", config, Recipe(20, 64, 0.05, momentum=0.9))


def mnist(seed: int, quick: bool) -> Setting:
    problem = load("mnist", n=1000 if quick else 2000, queries=100 if quick else 200, seed=seed).halved()
    config = {
        "in_channels": 1,
        "num_classes": 10,
        "channels": [8, 16],
        "image_size": [14, 14],
        "hidden": [64],
    }
    return Setting("mnist", problem, "cnn", config, Recipe(20, 64, 0.05, momentum=0.9))


def trec(seed: int, quick: bool) -> Setting:
    tokens = load("trec", n=1000 if quick else 2000, queries=100 if quick else 200, seed=seed)
    problem = weighted_words(tokens)
    config = {"in_features": problem.inputs.shape[1], "num_classes": problem.num_classes, "hidden": [32]}
    return Setting("trec", problem, "mlp", config, Recipe(15, 64, 0.2, momentum=0.9))


SETS: dict[str, Callable[[int, bool], Setting]] = {"digits": digits, "mnist": mnist, "trec": trec}
