"""Which tokens attend to which, as the mask that transformers adds to the attention scores.

A mask of tokens would do, but models turn it into one of scores by asking for its values, which `vmap` can't
answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Masks:
    """How a model type looks at its tokens.

    Attributes:
        causal: a token sees itself and those before it.
        window: tokens seen at most by layers with sliding attention: those nearer than `window`, itself
            among them, where causal; those up to `window` away on either side elsewhere.
        by_layer: the model asks for a mask for each kind of layer; else `window`, if any, holds for all.
    """

    causal: bool
    window: int | None = None
    by_layer: bool = False

    def __call__(self, seen: Tensor, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
        """0 where a token is seen and the least number elsewhere, [B, 1, L, L], from `seen` [B, L] bool."""
        distance = torch.arange(seen.shape[1], device=seen.device)
        distance = distance[:, None] - distance  # [L, L], of a query to each key
        allowed = distance >= 0 if self.causal else torch.ones_like(distance, dtype=torch.bool)
        near = allowed
        if self.window is not None:
            near = allowed & (distance < self.window if self.causal else distance.abs() <= self.window)
        if self.by_layer:
            return {
                "full_attention": _added(seen, allowed, dtype),
                "sliding_attention": _added(seen, near, dtype),
            }
        return _added(seen, near, dtype)


def _added(seen: Tensor, allowed: Tensor, dtype: torch.dtype) -> Tensor:
    # every token sees itself, padding too: attention to nothing would be no number
    itself = torch.eye(seen.shape[1], dtype=torch.bool, device=seen.device)
    hidden = ~(seen[:, None, None, :] & allowed | itself)
    return torch.zeros(hidden.shape, dtype=dtype, device=seen.device).masked_fill(
        hidden, torch.finfo(dtype).min
    )
