"""A second opinion on suspected labels: of a network trained again without them.

The estimate of how many labels are wrong tends to be low, and the last of them are not those that look
worst. So WIDER times as many samples are suspected as labels are wrong, and the network is trained again on
the others, and on suspects whose label the first run disputes at SURE or more, with the label it proposes.
What the second run then takes a suspect for is not learned from the label as given. It is trained LONGER
times as long, and sees images moved at random (worker/influence/selection/moved.py): it is asked what it
knows, not what a run by the recipe would.

With q(c) its mean probability over its checkpoints, p(c) ∝ q(c)^(1/τ) and y the label as given, the right
label is c with probability

    P(c | y) ∝ (1 - ρ) p(c) where c = y,   ρ/(C - 1) p(c) elsewhere,

where the share ρ of wrong labels and τ are fitted to the second run's view of all samples
(worker/influence/selection/noise.py), τ not beyond SOFTEST: where a network is as sure of every sample, a p
that is soft enough explains all wrong labels away. A suspect is kept where P(y | y) ≥ SURE, else relabelled
c* = argmax P(c | y) where P(c* | y) ≥ CERTAIN, else removed. That most labels are right speaks for the label
as given: a hard sample that is right teaches more than most, and its loss costs more than a wrong one that
stays.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from worker.influence.selection.choosing import Floats, Ints, most
from worker.influence.selection.labels import SURE
from worker.influence.selection.noise import fitted

WIDER = 1.5
CERTAIN = 0.95  # of the right label, from which on a suspect is relabelled and not removed
SOFTEST = 1.25  # τ: a mean over a run's states is seldom surer than it should be
LONGER = 2  # times as many steps as the recipe says
STATES = 10  # of the second run, at even distances, whose probabilities count


class Decided(NamedTuple):
    """What becomes of each suspect.

    Attributes:
        acquitted: whether it is kept as it is, bool [n].
        relabelled: whether it gets another label, bool [n]; those neither acquitted nor relabelled go.
        label: c* of those not acquitted where that is another than given, else NaN: float64 [n].
        confidence: P(c* | y) there, else NaN: float64 [n].
    """

    acquitted: torch.Tensor
    relabelled: torch.Tensor
    label: torch.Tensor
    confidence: torch.Tensor


def suspects(suspicion: Floats, wrong: int) -> Ints:
    """Indices of the samples to decide about where so many labels are wrong, the worst [N] first."""
    return most(suspicion, min(len(suspicion), round(WIDER * wrong)))


def seen_at(total: int) -> frozenset[int]:
    """After which of the second run's `total` steps its states are asked."""
    return frozenset(max(1, round(total * k / STATES)) for k in range(1, STATES + 1))


def decided(found: torch.Tensor, labels: torch.Tensor, index: Ints) -> Decided:
    """The verdict on each suspect.

    Args:
        found: mean probabilities of the second run, of all samples, [N, C].
        labels: as given, int64 [N].
        index: the suspects [n].
    """
    share, temperature = fitted(found, labels, SOFTEST)
    rows = torch.from_numpy(index)
    given = labels[rows, None]
    soft = (found[rows].double().clamp(min=1e-12).log() / temperature).softmax(1)
    weights = torch.full_like(soft, share / max(1, soft.shape[1] - 1)).scatter(1, given, 1 - share)
    posterior = weights * soft / (weights * soft).sum(1, keepdim=True)
    confidence, likeliest = posterior.max(1)
    acquitted = posterior.gather(1, given)[:, 0] >= SURE
    other = ~acquitted & (likeliest != given[:, 0])
    nothing = torch.full_like(confidence, torch.nan)
    return Decided(
        acquitted=acquitted,
        relabelled=other & (confidence >= CERTAIN),
        label=torch.where(other, likeliest.double(), nothing),
        confidence=torch.where(other, confidence, nothing),
    )
