"""The loss of a causal language model: how well each token of a sample tells the next one.

    ℓ_z = (1/n_z) Σ_t -log p(y_{t+1} | x_1 … x_t),   over the n_z tokens y_{t+1} that are not left out

Source: the loss of transformers' causal language models, but averaged over each sample by itself, where
theirs is over all tokens of a batch.
"""

from __future__ import annotations

import torch
from torch.nn import functional as nnf

LEFT_OUT = -100  # a target that says so, as torch.nn.functional.cross_entropy has it


def losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """ℓ_z of each sample [B]; 0 where all is left out.

    Args:
        logits: [B, L, V], at each token for the next one.
        targets: [B, L], the samples' own tokens, or LEFT_OUT; the first one is never told.
    """
    told = targets[:, 1:]
    each = nnf.cross_entropy(
        logits[:, :-1].transpose(1, 2), told, reduction="none", ignore_index=LEFT_OUT
    )  # [B, L - 1]
    return each.sum(1) / _count(told)


def share_right(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Share of its tokens that each sample tells right [B], in the logits' dtype; shapes as in `losses`."""
    told = targets[:, 1:]
    right = (logits[:, :-1].argmax(2) == told) & (told != LEFT_OUT)
    return (right.sum(1) / _count(told)).to(logits.dtype)


def errors(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over a sample's tokens of ‖p_t - y_{t+1}‖₂ [B], p the chances, y one-hot; shapes as there."""
    told, chances = targets[:, 1:], logits[:, :-1].softmax(2)
    given = chances.gather(2, told.clamp(min=0)[..., None])[..., 0]  # p_t(y_{t+1})
    squares = chances.square().sum(2) - 2 * given + 1
    each = squares.clamp(min=0).sqrt() * (told != LEFT_OUT)
    return each.sum(1) / _count(told)


def left_out(inputs: torch.Tensor, targets: torch.Tensor, pad_id: int | None) -> torch.Tensor:
    """The targets [B, L] with LEFT_OUT where they are negative, or where `inputs` [B, L] are padding."""
    return targets.masked_fill((targets < 0) | ~tokens_seen(inputs, pad_id), LEFT_OUT)


def tokens_seen(tokens: torch.Tensor, pad_id: int | None) -> torch.Tensor:
    """[B, L] bool: all but the padding before a sample's first and after its last token.

    Between them the padding's id is a token like others: many models pad with the token that ends a text.
    """
    if pad_id is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    given = (tokens != pad_id).long()
    begun, goes_on = given.cumsum(1) > 0, given.flip(1).cumsum(1).flip(1) > 0
    return begun & goes_on


def _count(told: torch.Tensor) -> torch.Tensor:
    """n_z [B], 1 where it would be 0."""
    return (told != LEFT_OUT).sum(1).clamp(min=1)
