"""Layer norm spelt out in place of torch's own, whose nested forward mode is wrong (torch 2.13)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """(x − mean) / √(var + ε) · weight + bias over the last axis, with the tensors of a `torch.nn.LayerNorm`,
    of which either may be missing."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """[…, d] → […, d]."""
        centred = x - x.mean(-1, keepdim=True)
        y = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias


def spell_out(model: nn.Module) -> None:
    """Puts the formula in place of each `torch.nn.LayerNorm` over one axis; tensors keep their names."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.LayerNorm and len(child.normalized_shape) == 1:
                parent._modules[name] = LayerNorm(child)
