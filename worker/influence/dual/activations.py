"""Activations: f(x + εẋ) = f(x) + ε f'(x) ẋ, by torch's own kernels for f'(x) ẋ where both are plain."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any, NamedTuple

import torch
from torch.nn import functional as nnf

from worker.influence.dual.numbers import (
    Dual,
    NoRuleError,
    Rule,
    Tensor,
    is_dual,
    level_of,
    only,
    parts,
    primal,
    rule,
    total,
)

aten = torch.ops.aten


class Slope(NamedTuple):
    """t ↦ t·f'(x) for tensors and duals.

    Attributes:
        kernel: (t, x) → t·f'(x) of plain tensors.
        curvature: x ↦ f''(x); None where it is 0 wherever there is one.
    """

    kernel: Callable[[Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor], Tensor] | None = None

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        if self.curvature is None:
            return self._parts_alike(t, primal(x))
        level = level_of(t, x)
        if not level:
            return self.kernel(t, x)
        (t0, t1), (x0, x1) = parts(t, level), parts(x, level)
        straight = None if t1 is None else self(t1, x0)
        if x1 is None:
            return Dual(self(t0, x0), total(straight), level)
        bend = self.curvature(x0) * x1
        tangent = bend * t0 if straight is None else torch.addcmul(straight, bend, t0)
        return Dual(self(t0, x0), tangent, level)

    def _parts_alike(self, t: Tensor, x: Tensor) -> Tensor:
        if is_dual(t):
            return Dual(self._parts_alike(t.value, x), self._parts_alike(t.tangent, x), t.level)
        return self.kernel(t, x)


def _gelu_curvature(x: Tensor) -> Tensor:
    """gelu''(x) = (2 - x²) φ(x), in place where it can be: it is as dear as the convolution before it."""
    squares = torch.square(x)
    factor = torch.sub(2 / sqrt(2 * pi), squares, alpha=1 / sqrt(2 * pi))
    return factor.mul_(squares.mul_(-0.5).exp_())


def _gelu_tanh_curvature(x: Tensor) -> Tensor:
    """(1 - T²)(u' + x(u''/2 - T u'²)) of x(1 + T)/2, T = tanh(u), u = c(x + a x³)."""
    c, a = sqrt(2 / pi), 0.044715
    squares = torch.square(x)
    t, first = torch.tanh(x * (squares * (c * a) + c)), squares * (3 * c * a) + c
    return (1 - torch.square(t)) * (first + x * (x * (3 * c * a) - t * torch.square(first)))


def _silu_curvature(x: Tensor) -> Tensor:
    """σ(1 - σ)(2 + x(1 - 2σ))."""
    s = torch.sigmoid(x)
    return s * (1 - s) * (x * (1 - s * 2) + 2)


def _hardswish_curvature(x: Tensor) -> Tensor:
    """1/3 between the two kinks."""
    return (primal(x).abs() < 3).to(x.dtype) / 3


GELU = Slope(lambda t, x: aten.gelu_backward(t, x), _gelu_curvature)
GELU_TANH = Slope(lambda t, x: aten.gelu_backward(t, x, approximate="tanh"), _gelu_tanh_curvature)
SILU = Slope(lambda t, x: aten.silu_backward(t, x), _silu_curvature)
HARDSWISH = Slope(lambda t, x: aten.hardswish_backward(t, x), _hardswish_curvature)
HARDSIGMOID = Slope(lambda t, x: aten.hardsigmoid_backward(t, x))
RELU = Slope(lambda t, y: aten.threshold_backward(t, y, 0))  # of the result, where it is positive


@rule("gelu")
def _gelu(func: Rule, x: Dual, approximate: str = "none") -> Dual:
    slope = GELU_TANH if approximate == "tanh" else GELU
    return Dual(func(x.value, approximate=approximate), slope(x.tangent, x.value), x.level)


@rule("silu")
def _silu(func: Rule, x: Dual) -> Dual:
    return Dual(nnf.silu(x.value), SILU(x.tangent, x.value), x.level)


@rule("hardswish")
def _hardswish(func: Rule, x: Dual) -> Dual:
    return Dual(nnf.hardswish(x.value), HARDSWISH(x.tangent, x.value), x.level)


@rule("hardsigmoid")
def _hardsigmoid(func: Rule, x: Dual) -> Dual:
    return Dual(nnf.hardsigmoid(x.value), HARDSIGMOID(x.tangent, x.value), x.level)


@rule("relu")
def _relu(func: Rule, x: Dual) -> Dual:
    value = torch.relu(x.value)
    return Dual(value, RELU(x.tangent, value), x.level)


@rule("hardtanh")
def _hardtanh(func: Rule, x: Dual, min_val: float = -1.0, max_val: float = 1.0) -> Dual:
    """Cut off at both ends; at the ends themselves the slope is 0."""
    slope = Slope(lambda t, at: aten.hardtanh_backward(t, at, min_val, max_val))
    return Dual(nnf.hardtanh(x.value, min_val, max_val), slope(x.tangent, x.value), x.level)


@rule("relu6")
def _relu6(func: Rule, x: Dual) -> Dual:
    return _hardtanh(func, x, 0.0, 6.0)


@rule("clamp", "clip", "clamp_min", "clamp_max")
def _clamp(func: Rule, x: Dual, *bounds: Any, **named: Any) -> Dual:
    """Cut off at bounds that don't move; at the bounds themselves the slope is 1."""
    if any(map(is_dual, (*bounds, *named.values()))):
        raise NoRuleError("bounds that move")
    value = func(x.value, *bounds, **named)
    inside = primal(x) == primal(value)
    return Dual(value, x.tangent * inside, x.level)


@rule("leaky_relu")
def _leaky_relu(func: Rule, x: Dual, negative_slope: float = 0.01) -> Dual:
    slope = Slope(lambda t, at: aten.leaky_relu_backward(t, at, negative_slope, False))
    return Dual(nnf.leaky_relu(x.value, negative_slope), slope(x.tangent, x.value), x.level)


@rule("elu")
def _elu(func: Rule, x: Dual, alpha: float = 1.0) -> Dual:
    """f' is f'' below 0: α eˣ."""
    slope = Slope(
        lambda t, at: aten.elu_backward(t, alpha, 1.0, 1.0, False, at),
        lambda at: torch.where(primal(at) > 0, 0.0, alpha * torch.exp(at.clamp(max=0))),
    )
    return Dual(nnf.elu(x.value, alpha), slope(x.tangent, x.value), x.level)


@rule("abs")
def _abs(func: Rule, x: Dual) -> Dual:
    return Dual(torch.abs(x.value), x.tangent * torch.sign(primal(x)), x.level)


@rule("tanh")
def _tanh(func: Rule, x: Dual) -> Dual:
    y = torch.tanh(x.value)
    plain = not level_of(y, x.tangent)
    return Dual(y, aten.tanh_backward(x.tangent, y) if plain else x.tangent * (1 - y * y), x.level)


@rule("softplus")
def _softplus(func: Rule, x: Dual, beta: float = 1.0, threshold: float = 20.0) -> Dual:
    only({"beta": beta, "threshold": threshold}, beta=1.0, threshold=20.0)
    return Dual(nnf.softplus(x.value), x.tangent * torch.sigmoid(x.value), x.level)


@rule("mish")
def _mish(func: Rule, x: Dual) -> Any:
    return x * torch.tanh(nnf.softplus(x))


@rule("softsign")
def _softsign(func: Rule, x: Dual) -> Any:
    return x / (torch.abs(x) + 1)


@rule("softmax")
def _softmax(func: Rule, x: Dual, dim: int, dtype: Any = None, **stacklevel: Any) -> Dual:
    only({"dtype": dtype})
    y = torch.softmax(x.value, dim)
    if not level_of(y, x.tangent):
        return Dual(y, aten._softmax_backward_data(x.tangent, y, dim, y.dtype), x.level)
    share = y * x.tangent
    return Dual(y, share - y * share.sum(dim, keepdim=True), x.level)


@rule("log_softmax")
def _log_softmax(func: Rule, x: Dual, dim: int, dtype: Any = None, **stacklevel: Any) -> Dual:
    only({"dtype": dtype})
    beside = (torch.softmax(x.value, dim) * x.tangent).sum(dim, keepdim=True)
    return Dual(torch.log_softmax(x.value, dim), x.tangent - beside, x.level)


@rule("logsumexp")
def _logsumexp(func: Rule, x: Dual, dim: int, keepdim: bool = False) -> Dual:
    value = torch.logsumexp(x.value, dim, keepdim)
    return Dual(value, (torch.softmax(x.value, dim) * x.tangent).sum(dim, keepdim=keepdim), x.level)
