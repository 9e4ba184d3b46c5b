"""Losses without reduction, of outputs that move and targets that don't."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as nnf

from worker.influence.dual.numbers import Dual, NoRuleError, Rule, Tensor, only, rule


@rule("cross_entropy")
def _cross_entropy(func: Rule, x: Dual, target: Tensor, ignore_index: int = -100, **rest: Any) -> Dual:
    """Dℓ[ẋ] = Σ_c p_c ẋ_c - ẋ_target, 0 where the target is to be ignored."""
    only(rest, reduction="none", label_smoothing=0.0)
    if target.is_floating_point():
        raise NoRuleError("targets that are shares")
    losses = func(x.value, target, ignore_index=ignore_index, reduction="none")
    beside = x.tangent - (torch.softmax(x.value, 1) * x.tangent).sum(1, keepdim=True)
    return Dual(losses, nnf.nll_loss(beside, target, ignore_index=ignore_index, reduction="none"), x.level)


@rule("binary_cross_entropy_with_logits")
def _binary_cross_entropy(func: Rule, x: Dual, target: Tensor, **rest: Any) -> Dual:
    only(rest, reduction="none")
    slope = torch.sigmoid(x.value) - target
    return Dual(func(x.value, target, reduction="none"), x.tangent * slope, x.level)


@rule("mse_loss")
def _mse(func: Rule, x: Dual, target: Tensor, **rest: Any) -> Dual:
    only(rest, reduction="none")
    return Dual(func(x.value, target, reduction="none"), x.tangent * ((x.value - target) * 2), x.level)
