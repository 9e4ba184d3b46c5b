"""Losses that need the batch: images and texts matched within fixed groups (README, "Losses of a group").

With s_ij = scale · ⟨image i, text j⟩ for the pairs i, j of a group,

    ℓ_i = ½ (log Σ_j exp s_ij - s_ii) + ½ (log Σ_j exp s_ji - s_ii)

Source: CLIP, Radford et al., arXiv 2103.00020.
"""

from __future__ import annotations

import torch
from torch.nn import functional as nnf


def logits(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, group: int) -> torch.Tensor:
    """s_ij [B, S] of each image i and the texts j of its group, the S = min(group, B) pairs it is in.

    Args:
        images: [B, d]; texts: [B, d]; scale: a single number.

    Raises:
        ValueError: B pairs are no whole number of groups.
    """
    size = min(group, images.shape[0])
    if images.shape[0] % size:
        raise ValueError(f"{images.shape[0]} pairs are no whole number of groups of {group}")
    left, right = images.reshape(-1, size, images.shape[-1]), texts.reshape(-1, size, texts.shape[-1])
    found: torch.Tensor = ((left @ right.transpose(1, 2)) * scale).reshape(-1, size)
    return found


def losses(s: torch.Tensor, among: torch.Tensor | None = None) -> torch.Tensor:
    """ℓ_i [B].

    Args:
        s: logits [B, S].
        among: bool [B]: the pairs there are; the others are nobody's alternatives. None: all.
    """
    blocks = _blocks(s)
    if among is not None:
        absent = ~among.reshape(blocks.shape[0], -1)  # [n, S]
        either = absent[:, None, :] | absent[:, :, None]
        own = torch.eye(blocks.shape[1], dtype=torch.bool, device=s.device)
        blocks = blocks.masked_fill(either & ~own, torch.finfo(s.dtype).min)
    there, back = (_cross_entropy(each) for each in (blocks, blocks.transpose(1, 2)))
    return (there + back) / 2


def shares(s: torch.Tensor) -> torch.Tensor:
    """What each pair z adds to the total of its group: Σ_i ℓ_i less the same without z, [B].

    Without z, the others have an alternative less:

        ℓ_z + ½ Σ_{i≠z} (-log(1 - p_iz) - log(1 - q_iz)),  p_i = softmax_j s_ij,  q_i = softmax_j s_ji
    """
    blocks = _blocks(s)
    if blocks.shape[1] == 1:
        return losses(s)
    relief = _relief(blocks) + _relief(blocks.transpose(1, 2))
    return losses(s) + relief.reshape(-1) / 2


def errors(s: torch.Tensor) -> torch.Tensor:
    """[B, 2S]: the chances that each image gives its group's texts, and each text its images, less the truth;
    both halves divided by √2, so that together they are as long as one alone."""
    blocks = _blocks(s)
    truth = torch.eye(blocks.shape[1], dtype=s.dtype, device=s.device)
    both = torch.cat([blocks.softmax(2) - truth, blocks.transpose(1, 2).softmax(2) - truth], dim=2)
    return both.reshape(s.shape[0], -1) / 2**0.5


def _blocks(s: torch.Tensor) -> torch.Tensor:
    """[n, S, S]: of each group, its images against its texts."""
    return s.reshape(-1, s.shape[1], s.shape[1])


def _cross_entropy(blocks: torch.Tensor) -> torch.Tensor:
    """-log softmax_i of row i, [n·S]."""
    count, size = blocks.shape[:2]
    own = torch.arange(size, device=blocks.device).repeat(count)
    return nnf.cross_entropy(blocks.reshape(-1, size), own, reduction="none")


def _relief(blocks: torch.Tensor) -> torch.Tensor:
    """Σ_{i≠z} -log(1 - softmax_z of row i), [n, S].

    Where z has the largest chance, 1 - p is the sum of the others' and not a difference that cancels.
    """
    size = blocks.shape[1]
    best = nnf.one_hot(blocks.argmax(2), size).bool()
    others = torch.logsumexp(blocks.masked_fill(best, torch.finfo(blocks.dtype).min), 2, keepdim=True)
    largest = (others - torch.logsumexp(blocks, 2, keepdim=True)).expand(blocks.shape)
    smaller = torch.log1p(-blocks.softmax(2).masked_fill(best, 0.0))
    own = torch.eye(size, dtype=torch.bool, device=blocks.device)
    without = (smaller + largest.masked_fill(~best, 0.0)).masked_fill(own, 0.0)  # log(1 - p_iz)
    return -without.sum(1)
