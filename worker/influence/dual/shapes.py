"""What is linear in its first argument: means, pooling, and all that only moves entries about."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as nnf

from worker.influence.dual.numbers import Dual, NoRuleError, Rule, Tensor, is_dual, only, primal, rule


@rule(
    "reshape", "flatten", "permute", "transpose", "unsqueeze", "squeeze", "expand", "contiguous",
    "__getitem__", "sum", "mean", "avg_pool2d", "neg", "nll_loss", "double", "float",
)  # fmt: skip
def _linear(func: Rule, x: Dual, *args: Any, **kwargs: Any) -> Dual:
    return Dual(func(x.value, *args, **kwargs), func(x.tangent, *args, **kwargs), x.level)


@rule("view")
def _view(func: Rule, x: Dual, *shape: Any) -> Dual:
    """Copied where the layout asks for it: images may lie otherwise than the network's author thought."""
    if isinstance(shape[0], torch.dtype):
        raise NoRuleError("view as another type")
    return _linear(Tensor.reshape, x, *shape)


@rule("unbind", "split", "chunk")
def _pieces(func: Rule, x: Dual, *args: Any, **kwargs: Any) -> tuple[Dual, ...]:
    values, tangents = func(x.value, *args, **kwargs), func(x.tangent, *args, **kwargs)
    return tuple(Dual(value, tangent, x.level) for value, tangent in zip(values, tangents, strict=True))


@rule("masked_fill")
def _masked_fill(func: Rule, x: Dual, mask: Tensor, value: float) -> Dual:
    return Dual(func(x.value, mask, value), func(x.tangent, mask, 0), x.level)


@rule("max_pool2d")
def _max_pool2d(func: Rule, x: Dual, *args: Any, return_indices: bool = False, **kwargs: Any) -> Dual:
    """A window changes as its largest entry does."""
    if return_indices:
        raise NoRuleError("return_indices")
    value, where = nnf.max_pool2d(primal(x), *args, return_indices=True, **kwargs)
    last = where.stride(1) == 1
    at = where.permute(0, 2, 3, 1).flatten(1, 2) if last else where.flatten(2)

    def pick(t: Tensor) -> Tensor:
        if is_dual(t):
            return Dual(pick(t.value), pick(t.tangent), t.level)
        if last:
            rows = t.permute(0, 2, 3, 1).flatten(1, 2).gather(1, at)  # [B, positions, C]
            return rows.view(len(rows), *where.shape[2:], -1).permute(0, 3, 1, 2)
        return t.flatten(2).gather(2, at).view(where.shape)

    return Dual(pick(x.value) if is_dual(x.value) else value, pick(x.tangent), x.level)


@rule("dropout")
def _dropout(func: Rule, x: Dual, p: float = 0.5, training: bool = True, inplace: bool = False) -> Dual:
    only({"training": training}, training=False)
    return x


@rule("argmax", "gt", "isfinite")
def _constant(func: Rule, x: Dual, *args: Any, **kwargs: Any) -> Any:
    """What has no derivative but 0."""
    return func(primal(x), *args, **kwargs)
