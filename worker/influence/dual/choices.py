"""What takes entries out of several tensors: joined, or the one that a condition or their order chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from worker.influence.dual.numbers import (
    Dual,
    NoRuleError,
    Rule,
    Tensor,
    is_dual,
    level_of,
    parts,
    primal,
    rule,
    still,
)


@rule("cat", "concat", "concatenate", "stack")
def _joined(func: Rule, tensors: Sequence[Any], dim: int = 0) -> Dual:
    level = level_of(*tensors)
    both = [parts(x, level) for x in tensors]
    value = func([x for x, _ in both], dim)
    return Dual(value, func([still(x) if change is None else change for x, change in both], dim), level)


@rule("where")
def _where(func: Rule, *args: Any) -> Dual:
    """torch.where(condition, a, b), or a.where(condition, b)."""
    condition, a, b = args if func is torch.where else (args[1], args[0], args[2])
    level = level_of(a, b)
    (a0, a1), (b0, b1) = parts(a, level), parts(b, level)
    first, second = (0.0 if change is None else change for change in (a1, b1))
    return Dual(torch.where(condition, a0, b0), torch.where(condition, first, second), level)


@rule("maximum", "minimum")
def _extreme(func: Rule, a: Any, b: Any) -> Any:
    """Where both are alike, each has half a say."""
    left, right = primal(a), primal(b)
    first = (left > right) if func.__name__ == "maximum" else (left < right)
    share = first.to(left.dtype) + (left == right) * 0.5
    return a * share + b * (1 - share)


@rule("amax", "amin")
def _extreme_along(func: Rule, x: Dual, dim: Any = (), keepdim: bool = False) -> Dual:
    """Where several entries are alike, they have equal says."""
    hit = (primal(x) == func(primal(x), dim, True)).to(x.dtype)
    share = hit / hit.sum(dim, keepdim=True)
    return Dual(func(x.value, dim, keepdim), (x.tangent * share).sum(dim, keepdim=keepdim), x.level)


@rule("max", "min")
def _largest(func: Rule, x: Any, other: Any = None, keepdim: bool = False, **named: Any) -> Any:
    """Of all entries, of two tensors, or along an axis with the places."""
    if isinstance(other, Tensor):
        extreme = torch.maximum if func.__name__ == "max" else torch.minimum
        return extreme(x, other)
    dim = named.pop("dim", other)
    if named:
        raise NoRuleError(f"{func.__name__} with {', '.join(named)}")
    if dim is None:
        return (torch.amax if func.__name__ == "max" else torch.amin)(x)
    found = func(primal(x), dim, True)
    values = x.gather(dim, found.indices)
    if keepdim:
        return type(found)((values, found.indices))
    return type(found)((values.squeeze(dim), found.indices.squeeze(dim)))


@rule("masked_fill")
def _masked_fill(func: Rule, x: Dual, mask: Tensor, value: float) -> Dual:
    if is_dual(value):
        raise NoRuleError("a filling that moves")
    return Dual(func(x.value, mask, value), func(x.tangent, mask, 0), x.level)
