"""Elementary functions of each entry, by their derivatives, which are themselves made of what has rules."""

from __future__ import annotations

from collections.abc import Callable
from math import log, pi, sqrt
from typing import Any

import torch

from worker.influence.dual.numbers import Dual, NoRuleError, Rule, Tensor, is_dual, rule

# f'(x), of x and y = f(x)
DERIVATIVES: dict[str, Callable[[Any, Any], Any]] = {
    "exp": lambda x, y: y,
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: torch.reciprocal(x),
    "log1p": lambda x, y: torch.reciprocal(x + 1),
    "log2": lambda x, y: torch.reciprocal(x * log(2)),
    "sqrt": lambda x, y: torch.reciprocal(y) * 0.5,
    "rsqrt": lambda x, y: y * y * y * -0.5,
    "reciprocal": lambda x, y: -(y * y),
    "square": lambda x, y: x * 2,
    "sigmoid": lambda x, y: y * (1 - y),
    "erf": lambda x, y: torch.exp(-torch.square(x)) * (2 / sqrt(pi)),
    "sin": lambda x, y: torch.cos(x),
    "cos": lambda x, y: -torch.sin(x),
    "tan": lambda x, y: torch.square(y) + 1,
    "sinh": lambda x, y: torch.cosh(x),
    "cosh": lambda x, y: torch.sinh(x),
    "atan": lambda x, y: torch.reciprocal(torch.square(x) + 1),
    "log_sigmoid": lambda x, y: torch.sigmoid(-x),
}


@rule(*DERIVATIVES)
def _elementary(func: Rule, x: Dual) -> Dual:
    y = func(x.value)
    return Dual(y, x.tangent * DERIVATIVES[func.__name__](x.value, y), x.level)


@rule("pow", "float_power")
def _power(func: Rule, x: Any, exponent: Any) -> Any:
    """x^n for a number n; those that come with norms and cubes are products."""
    if is_dual(exponent) or isinstance(exponent, Tensor):
        raise NoRuleError("an exponent that is a tensor")
    if exponent in (0.5, -0.5, -1, 2):
        named = {0.5: torch.sqrt, -0.5: torch.rsqrt, -1: torch.reciprocal, 2: torch.square}[exponent]
        return named(x)
    if exponent == 3:
        return torch.square(x) * x
    return Dual(
        torch.pow(x.value, exponent), x.tangent * (torch.pow(x.value, exponent - 1) * exponent), x.level
    )
