"""Samples that are all but the same: what a selection leaves behind of what it takes out, or keeps twice.

Inputs are seen through D random projections, centred at their mean. Two samples are near-duplicates where
the cosine between their sketches is SAME or more; of a pair with cosine c a sketch errs by about (1 - c²)/√D,
which is nothing for pairs that matter. Token ids are seen as the bag of their tokens, order and padding
aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from worker.influence.selection.choosing import Ints
from worker.influence.trajectory import Data

PROJECTIONS, SAME = 128, 0.99
ROUNDING = 1e-4  # of a sketch's length: what is left of a sample that is the mean
TOKENS = 1 << 16  # directions that token ids share
TOGETHER = 1 << 24  # cosines computed at a time


class Pair(NamedTuple):
    """A sample of the selection, one outside that is all but the same, and the cosine between them."""

    inside: int
    outside: int
    similarity: float


def sketches(data: Data, *, chunk: int, seed: int = 0) -> torch.Tensor:
    """Of each sample's inputs, of length 1 (0 for one that is the mean): float32 [N, PROJECTIONS]."""
    generator = torch.Generator().manual_seed(seed)
    directions: torch.Tensor | None = None
    parts = []
    for inputs, _ in data.chunks(chunk):
        flat = inputs.cpu().reshape(len(inputs), -1)
        tokens = not flat.is_floating_point()
        if directions is None:
            rows = TOKENS if tokens else flat.shape[1]
            directions = torch.randn(rows, PROJECTIONS, generator=generator) / PROJECTIONS**0.5
        parts.append(_bags(flat, directions) if tokens else flat.float() @ directions)
    together = torch.cat(parts)
    centred = together - together.mean(0)
    lengths = centred.norm(dim=1, keepdim=True)
    some = lengths > ROUNDING * together.norm(dim=1).mean()
    return torch.where(some, centred / lengths.clamp(min=1e-30), 0.0)


def _bags(ids: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    used = (ids > 0)[..., None]  # 0 is padding
    return (directions[ids.clamp(min=0) % TOKENS] * used).sum(1)


def near(found: torch.Tensor, chosen: Sequence[int]) -> list[Pair]:
    """Each pair of a chosen sample and one that is not, by the chosen one's place, then by index.

    Args:
        found: of all samples (`sketches`).
    """
    outside = torch.ones(len(found), dtype=torch.bool)
    outside[list(chosen)] = False
    pairs: list[Pair] = []
    size = max(1, TOGETHER // max(1, len(found)))
    for start in range(0, len(chosen), size):
        part = list(chosen[start : start + size])
        cosines = found[part] @ found.T
        for at, other in ((cosines >= SAME) & outside).nonzero().tolist():
            pairs.append(Pair(part[at], other, float(cosines[at, other])))
    return pairs


def crowding(found: torch.Tensor, order: Ints) -> torch.Tensor:
    """Which samples are all but the same as one before them: bool [N], by index.

    Args:
        found: of all samples (`sketches`).
        order: their indices in the order that counts, [N].
    """
    places = torch.from_numpy(order)
    ordered, crowds = found[places], torch.zeros(len(order), dtype=torch.bool)
    size = max(1, TOGETHER // max(1, len(order)))
    for start in range(0, len(order), size):
        part = ordered[start : start + size]
        alike = part @ ordered[: start + len(part)].T >= SAME
        crowds[places[start : start + size]] = torch.tril(alike, diagonal=start - 1).any(1)
    return crowds
