"""Norms, put together from operations that have rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from worker.influence.dual.numbers import Rule, Tensor, only, rule


@rule("batch_norm")
def _batch_norm(
    func: Rule, x: Any, mean: Any, var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """x·s + (bias - mean·s) with s = weight/√(var + ε), in eval mode."""
    only({"training": training}, training=False)
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else weight * scale
    shift = -(mean * scale) if bias is None else bias - mean * scale
    shape = (-1,) + (1,) * (x.dim() - 2)
    return torch.addcmul(shift.reshape(shape), x, scale.reshape(shape))


@rule("group_norm")
def _group_norm(
    func: Rule, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    y = _standardised(x.reshape(x.shape[0], groups, -1), (-1,), eps).reshape(x.shape)
    shape = (-1,) + (1,) * (x.dim() - 2)
    return y if weight is None else torch.addcmul(bias.reshape(shape), y, weight.reshape(shape))


@rule("layer_norm")
def _layer_norm(
    func: Rule, x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    y = _standardised(x, tuple(range(-len(shape), 0)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)
