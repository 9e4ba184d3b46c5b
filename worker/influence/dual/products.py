"""Sums, and what is linear in each of two factors: (x + εẋ)(w + εẇ) = xw + ε(ẋw + xẇ)."""

from __future__ import annotations

from typing import Any

import torch

from worker.influence.dual.numbers import (
    Dual,
    NoRuleError,
    Rule,
    Tensor,
    level_of,
    parts,
    rule,
    total,
)


@rule("add", "sub")
def _sum(func: Rule, a: Any, b: Any, *, alpha: float = 1) -> Dual:
    b = b if alpha == 1 else b * alpha
    level = level_of(a, b)
    (a0, a1), (b0, b1) = parts(a, level), parts(b, level)
    value = func(a0, b0)
    if a1 is not None and b1 is not None:
        return Dual(value, func(a1, b1), level)
    tangent = a1 if b1 is None else b1 if func.__name__ == "add" else -b1
    return Dual(value, tangent.expand(value.shape), level)


@rule("__rsub__")
def _subtracted(func: Rule, a: Dual, b: Any) -> Dual:
    return Dual(b - a.value, -a.tangent, a.level)


@rule("mul", "matmul", "mm", "bmm")
def _product(func: Rule, a: Any, b: Any) -> Dual:
    level = level_of(a, b)
    (a0, a1), (b0, b1) = parts(a, level), parts(b, level)
    value = func(a0, b0)
    first = None if a1 is None else func(a1, b0)
    if first is not None and b1 is not None and func.__name__ == "mul" and a0.dtype == b1.dtype:
        return Dual(value, torch.addcmul(first, a0, b1), level)  # the second added as it is computed
    second = None if b1 is None else func(a0, b1)
    return Dual(value, total(first, second), level)


@rule("einsum")
def _einsum(func: Rule, equation: str, a: Any, b: Any) -> Dual:
    return _product(lambda left, right: func(equation, left, right), a, b)


@rule("div", "true_divide")
def _quotient(func: Rule, a: Any, b: Any) -> Any:
    """(a + εȧ)/(b + εḃ) = y + ε(ȧ - yḃ)/b, y = a/b."""
    level = level_of(a, b)
    (a0, a1), (b0, b1) = parts(a, level), parts(b, level)
    if b1 is None:
        return Dual(a0 / b0, a1 / b0, level)
    y = a0 / b0
    change = -(y * b1) if a1 is None else a1 - y * b1
    return Dual(y, change / b0, level)


@rule("__rdiv__", "__rtruediv__")
def _divided(func: Rule, a: Dual, b: Any) -> Any:
    return torch.reciprocal(a) * b


@rule("linear")
def _linear(func: Rule, x: Any, weight: Any, bias: Any = None) -> Dual:
    """x wᵀ + b; of plain parts, ẋ wᵀ + ḃ + x ẇᵀ with the second product added as it is computed, and in
    place where no vmap is under way, which knows no addmm_."""
    level = level_of(x, weight, bias)
    (x0, x1), (w0, w1), (b0, b1) = parts(x, level), parts(weight, level), parts(bias, level)
    if x1 is None or w1 is None or level_of(x0, x1, w0, w1, b0, b1):
        return _affine(func, x, weight, bias)
    width = x0.shape[-1]
    change, beside = func(x1.reshape(-1, width), w0, b1), (x0.reshape(-1, width), w1.t())
    if any(map(torch._C._functorch.is_functorch_wrapped_tensor, (change, *beside))):
        change = torch.addmm(change, *beside)
    else:
        change.addmm_(*beside)
    value = func(x0, w0, b0)
    return Dual(value, change.view(value.shape), level)


@rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _affine(func: Rule, x: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Dual:
    """A product with the weight, and the bias added."""
    level = level_of(x, weight, bias)
    (x0, x1), (w0, w1), (b0, b1) = parts(x, level), parts(weight, level), parts(bias, level)
    batch = func.__name__ != "linear" and x.dim() == weight.dim()
    if x1 is None or level_of(x0, x1, w0) or not batch:
        value = func(x0, w0, b0, *args, **kwargs)
        first = None if x1 is None else func(x1, w0, b1, *args, **kwargs)
    else:  # one call for both: a weight is put into the order of its kernel each time
        value, first = func(torch.cat([x0, x1]), w0, None, *args, **kwargs).chunk(2)
        channels = (-1,) + (1,) * (value.dim() - 2)
        value = value if b0 is None else value + b0.reshape(channels)
        first = first if b1 is None else first + b1.reshape(channels)
    second = None if w1 is None else func(x0, w1, b1 if x1 is None else None, *args, **kwargs)
    if first is None and second is None:
        raise NoRuleError("nothing but a bias moves")
    return Dual(value, total(first, second), level)


@rule("addmm", "baddbmm")
def _added_product(func: Rule, c: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """βc + α·ab."""
    product = torch.matmul(a, b)
    product = product if alpha == 1 else product * alpha
    return product + (c if beta == 1 else c * beta)


@rule("addcmul")
def _add_product(func: Rule, c: Any, a: Any, b: Any) -> Dual:
    """c + a·b, elementwise."""
    level = level_of(c, a, b)
    (c0, tangent), (a0, a1), (b0, b1) = (parts(x, level) for x in (c, a, b))
    value = torch.addcmul(c0, a0, b0)
    for left, right in ((a0, b1), (a1, b0)):
        if left is not None and right is not None:
            tangent = left * right if tangent is None else torch.addcmul(tangent, left, right)
    return Dual(value, tangent.expand(value.shape), level)


@rule("embedding")
def _embedding(
    func: Rule, tokens: Tensor, weight: Dual, padding_idx: Any = None, max_norm: Any = None, **rest: Any
) -> Dual:
    if max_norm is not None:
        raise NoRuleError("max_norm")
    return Dual(func(tokens, weight.value), func(tokens, weight.tangent), weight.level)
