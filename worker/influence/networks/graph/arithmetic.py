"""Elementwise arithmetic, comparisons and logic, by NumPy's rules of broadcasting."""

from __future__ import annotations

import torch

from worker.influence.networks.graph.registry import Tensor, operator


@operator("Add")
def add(a: Tensor, b: Tensor) -> Tensor:
    return a + b


@operator("Sub")
def sub(a: Tensor, b: Tensor) -> Tensor:
    return a - b


@operator("Mul")
def mul(a: Tensor, b: Tensor) -> Tensor:
    return a * b


@operator("Div")
def div(a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards 0."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Mod")
def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@operator("Pow")
def power(a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a, b).to(a.dtype)


@operator("Neg")
def neg(x: Tensor) -> Tensor:
    return -x


@operator("Abs")
def absolute(x: Tensor) -> Tensor:
    return torch.abs(x)


@operator("Sign")
def sign(x: Tensor) -> Tensor:
    return torch.sign(x)


@operator("Reciprocal")
def reciprocal(x: Tensor) -> Tensor:
    return torch.reciprocal(x)


@operator("Sqrt")
def sqrt(x: Tensor) -> Tensor:
    return torch.sqrt(x)


@operator("Exp")
def exp(x: Tensor) -> Tensor:
    return torch.exp(x)


@operator("Log")
def log(x: Tensor) -> Tensor:
    return torch.log(x)


@operator("Floor")
def floor(x: Tensor) -> Tensor:
    return torch.floor(x)


@operator("Ceil")
def ceil(x: Tensor) -> Tensor:
    return torch.ceil(x)


@operator("Round")
def round_(x: Tensor) -> Tensor:
    """Halves to the even neighbour."""
    return torch.round(x)


@operator("Sin")
def sin(x: Tensor) -> Tensor:
    return torch.sin(x)


@operator("Cos")
def cos(x: Tensor) -> Tensor:
    return torch.cos(x)


@operator("Tan")
def tan(x: Tensor) -> Tensor:
    return torch.tan(x)


@operator("Atan")
def atan(x: Tensor) -> Tensor:
    return torch.atan(x)


@operator("Asin")
def asin(x: Tensor) -> Tensor:
    return torch.asin(x)


@operator("Acos")
def acos(x: Tensor) -> Tensor:
    return torch.acos(x)


@operator("Sinh")
def sinh(x: Tensor) -> Tensor:
    return torch.sinh(x)


@operator("Cosh")
def cosh(x: Tensor) -> Tensor:
    return torch.cosh(x)


@operator("Erf")
def erf(x: Tensor) -> Tensor:
    return torch.erf(x)


@operator("Max")
def maximum(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = torch.maximum(first, other)
    return first


@operator("Min")
def minimum(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = torch.minimum(first, other)
    return first


@operator("Sum")
def total(first: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        first = first + other
    return first


@operator("Mean")
def mean(*inputs: Tensor) -> Tensor:
    return total(*inputs) / len(inputs)


@operator("Clip", host=(1, 2))
def clip(x: Tensor, least: float | None = None, largest: float | None = None) -> Tensor:
    if least is None and largest is None:
        return x
    return torch.clamp(x, least, largest)


@operator("Equal")
def equal(a: Tensor, b: Tensor) -> Tensor:
    return a == b


@operator("Greater")
def greater(a: Tensor, b: Tensor) -> Tensor:
    return a > b


@operator("GreaterOrEqual")
def greater_or_equal(a: Tensor, b: Tensor) -> Tensor:
    return a >= b


@operator("Less")
def less(a: Tensor, b: Tensor) -> Tensor:
    return a < b


@operator("LessOrEqual")
def less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    return a <= b


@operator("And")
def logical_and(a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_and(a, b)


@operator("Or")
def logical_or(a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_or(a, b)


@operator("Xor")
def logical_xor(a: Tensor, b: Tensor) -> Tensor:
    return torch.logical_xor(a, b)


@operator("Not")
def logical_not(x: Tensor) -> Tensor:
    return torch.logical_not(x)


@operator("IsNaN")
def is_nan(x: Tensor) -> Tensor:
    return torch.isnan(x)


@operator("IsInf")
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    found = torch.isinf(x)
    if not detect_negative:
        found = found & (x > 0)
    return found if detect_positive else found & (x < 0)


@operator("Where")
def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)
