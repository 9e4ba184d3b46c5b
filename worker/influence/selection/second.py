"""A second opinion on suspected labels: of a network trained again without them.

The estimate of how many labels are wrong tends to be low, and the last of them are not those that look
worst; one that stays costs a network far more than a right sample that goes. So WIDER times as many samples
are suspected as labels are wrong, and the network is trained again on the others, and on suspects whose label
the first run disputes at SURE or more, with the label it proposes. What the second run then takes a suspect
for is not learned from the label as given. With p_r(c) the mean probability over the checkpoints of run r,

    p(c) = (p_1(c) + p_2(c))/2,   c* = argmax_c p(c):

a suspect is removed where p(c*) < SURE, kept where c* is the label as given, else relabelled c*.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from worker.influence.selection.choosing import Floats, Ints, most
from worker.influence.selection.labels import SURE

WIDER = 1.5
STATES = 10  # of the second run, at even distances, whose probabilities count


class Decided(NamedTuple):
    """What becomes of each suspect.

    Attributes:
        acquitted: whether it is kept as it is, bool [n].
        label: c* where that is another than given, else NaN: float64 [n].
        confidence: p(c*) there, else NaN: float64 [n].
    """

    acquitted: torch.Tensor
    label: torch.Tensor
    confidence: torch.Tensor


def suspects(suspicion: Floats, wrong: int) -> Ints:
    """Indices of the samples to decide about where so many labels are wrong, the worst [N] first."""
    return most(suspicion, min(len(suspicion), round(WIDER * wrong)))


def seen_at(total: int) -> frozenset[int]:
    """After which of the second run's `total` steps its states are asked."""
    return frozenset(max(1, round(total * k / STATES)) for k in range(1, STATES + 1))


def decided(first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor) -> Decided:
    """The verdict on each suspect.

    Args:
        first, second: mean probabilities of either run, [n, C].
        labels: as given, [n].
    """
    confidence, likeliest = ((first + second) / 2).max(1)
    same = likeliest == labels
    nothing = torch.full_like(confidence, torch.nan)
    return Decided(
        acquitted=same & (confidence >= SURE),
        label=torch.where(same, nothing, likeliest.double()),
        confidence=torch.where(same, nothing, confidence),
    )
