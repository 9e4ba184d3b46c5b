"""How many labels are wrong, from the scores' own distribution: no clean labels, no hold-out, no training.

Let z_i(c) be the log of the mean probability of class c over a run's first checkpoints. Were all labels
right, they would be drawn from a softened p_i = softmax(z_i/τ); with a share ρ of them replaced by any other
class,

    P(y_i) = (1 - ρ) p_i(y_i) + ρ/(C - 1) · (1 - p_i(y_i)).

τ and ρ are those of greatest likelihood. What tells noise from difficulty is where the network is
contradicted: ambiguous samples are missed where it hesitates, which a softer p explains (τ); wrong labels are
as frequent where it is sure, which only ρ explains. So hard data does not look noisy.

A network learns wrong labels by heart in the end, and then nothing is left to see. Windows of the first 10,
20, 30 and 50% of the checkpoints are tried, and the one that shows most counts: on clean labels none shows
any.

Wrong labels are taken to be any other class. Those that follow a pattern (sevens labelled one) are learned
like a rule and look like difficulty: the estimate is then too low, often 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

WINDOWS = (0.1, 0.2, 0.3, 0.5)
TEMPERATURES = torch.logspace(-0.8, 0.4, 16, dtype=torch.float64)  # 0.16 to 2.5
TURNS, CLOSE = 200, 1e-5  # of expectation and maximization


class Estimate(NamedTuple):
    """How many labels are wrong.

    Attributes:
        share: ρ.
        temperature: τ.
        checkpoints: how many of the first checkpoints it was seen in.
    """

    share: float
    temperature: float
    checkpoints: int


def windows(checkpoints: Sequence[int]) -> list[tuple[int, ...]]:
    """How many of the first checkpoints of each run every window takes, ascending.

    Args:
        checkpoints: how many each run has.
    """
    return sorted({tuple(max(1, round(part * count)) for count in checkpoints) for part in WINDOWS})


def most_wrong(means: Sequence[tuple[int, torch.Tensor]], labels: torch.Tensor) -> Estimate:
    """What the window that shows most wrong labels says of them.

    Args:
        means: (how many of the first checkpoints, mean probabilities over them [n, C]) of each window.
        labels: as given, int64 [n].
    """
    found = [Estimate(*fitted(mean, labels), count) for count, mean in means]
    return max(found, key=lambda one: one.share)


def fitted(mean: torch.Tensor, labels: torch.Tensor, softest: float = math.inf) -> tuple[float, float]:
    """(ρ, τ) of greatest likelihood, with τ ≤ `softest`, for mean probabilities [n, C]."""
    logs = mean.double().clamp(min=1e-12).log()
    best = (-torch.inf, 0.0, 1.0)
    for temperature in TEMPERATURES[softest >= TEMPERATURES].tolist():
        given = (logs / temperature).softmax(1).gather(1, labels[:, None])[:, 0]
        share, likelihood = _share(given, mean.shape[1])
        best = max(best, (likelihood, share, temperature))
    return best[1], best[2]


def _share(given: torch.Tensor, classes: int) -> tuple[float, float]:
    """(ρ of greatest likelihood, its log-likelihood), given p_i(y_i) [n], by expectation and maximization."""
    others = (1 - given) / max(1, classes - 1)
    share = 0.2
    for _ in range(TURNS):
        wrong = share * others
        new = float((wrong / (wrong + (1 - share) * given).clamp(min=1e-300)).mean())
        done = abs(new - share) < CLOSE
        share = new
        if done:
            break
    return share, float(((1 - share) * given + share * others).clamp(min=1e-300).log().sum())
