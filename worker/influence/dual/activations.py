"""Activations: f(x + εẋ) = f(x) + ε f'(x) ẋ, by torch's own kernels for f'(x) ẋ where both are plain."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import torch

from worker.influence.dual.numbers import Dual, Rule, Tensor, is_dual, level_of, only, parts, rule, total

aten = torch.ops.aten


@rule("gelu")
def _gelu(func: Rule, x: Dual, approximate: str = "none") -> Dual:
    only({"approximate": approximate}, approximate="none")
    return Dual(func(x.value), _gelu_slope(x.tangent, x.value), x.level)


def _gelu_slope(t: Tensor, x: Tensor) -> Tensor:
    """t·gelu'(x)."""
    level = level_of(t, x)
    if not level:
        found: Tensor = aten.gelu_backward(t, x)
        return found
    (t0, t1), (x0, x1) = parts(t, level), parts(x, level)
    straight = None if t1 is None else _gelu_slope(t1, x0)
    if x1 is None:
        return Dual(_gelu_slope(t0, x0), total(straight), level)
    bend = _gelu_curvature(x0) * x1
    tangent = bend * t0 if straight is None else torch.addcmul(straight, bend, t0)
    return Dual(_gelu_slope(t0, x0), tangent, level)


def _gelu_curvature(x: Tensor) -> Tensor:
    """gelu''(x) = (2 - x²) φ(x), in place where it can be: it is as dear as the convolution before it."""
    squares = torch.square(x)
    factor = torch.sub(2 / sqrt(2 * pi), squares, alpha=1 / sqrt(2 * pi))
    return factor.mul_(squares.mul_(-0.5).exp_())


@rule("relu")
def _relu(func: Rule, x: Dual, inplace: bool = False) -> Dual:
    only({"inplace": inplace}, inplace=False)
    value = torch.relu(x.value)
    return Dual(value, _where_positive(x.tangent, value), x.level)


def _where_positive(t: Tensor, y: Tensor) -> Tensor:
    """t where y > 0, else 0."""
    if is_dual(y):
        return _where_positive(t, y.value)
    if is_dual(t):
        return Dual(_where_positive(t.value, y), _where_positive(t.tangent, y), t.level)
    found: Tensor = aten.threshold_backward(t, y, 0)
    return found


@rule("tanh")
def _tanh(func: Rule, x: Dual) -> Dual:
    y = torch.tanh(x.value)
    plain = not level_of(y, x.tangent)
    return Dual(y, aten.tanh_backward(x.tangent, y) if plain else x.tangent * (1 - y * y), x.level)


@rule("sigmoid")
def _sigmoid(func: Rule, x: Dual) -> Dual:
    y = torch.sigmoid(x.value)
    return Dual(y, x.tangent * (y * (1 - y)), x.level)


@rule("softmax")
def _softmax(func: Rule, x: Dual, dim: int, dtype: Any = None, **stacklevel: Any) -> Dual:
    only({"dtype": dtype})
    y = torch.softmax(x.value, dim)
    if not level_of(y, x.tangent):
        return Dual(y, aten._softmax_backward_data(x.tangent, y, dim, y.dtype), x.level)
    share = y * x.tangent
    return Dual(y, share - y * share.sum(dim, keepdim=True), x.level)


@rule("logsumexp")
def _logsumexp(func: Rule, x: Dual, dim: int, keepdim: bool = False) -> Dual:
    value = torch.logsumexp(x.value, dim, keepdim)
    return Dual(value, (torch.softmax(x.value, dim) * x.tangent).sum(dim, keepdim=keepdim), x.level)


@rule("exp")
def _exp(func: Rule, x: Dual) -> Dual:
    y = torch.exp(x.value)
    return Dual(y, x.tangent * y, x.level)


@rule("log1p")
def _log1p(func: Rule, x: Dual) -> Dual:
    return Dual(torch.log1p(x.value), x.tangent * torch.reciprocal(x.value + 1), x.level)


@rule("reciprocal")
def _reciprocal(func: Rule, x: Dual) -> Dual:
    y = torch.reciprocal(x.value)
    return Dual(y, -(x.tangent * (y * y)), x.level)


@rule("rsqrt")
def _rsqrt(func: Rule, x: Dual) -> Dual:
    y = torch.rsqrt(x.value)
    return Dual(y, x.tangent * (y * y * y * -0.5), x.level)


@rule("square")
def _square(func: Rule, x: Dual) -> Dual:
    return Dual(torch.square(x.value), x.tangent * (x.value * 2), x.level)
