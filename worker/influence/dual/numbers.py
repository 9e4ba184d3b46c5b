"""The numbers themselves: tensors that carry a tangent, and the registry of what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, TypeGuard, TypeVar

import torch

Tensor = torch.Tensor
Tensors = dict[str, Tensor]
Rule = Callable[..., Any]
R = TypeVar("R", bound=Rule)

RULES: dict[str, Rule] = {}  # by the name of torch's function or method

# what asks for a tensor's form, never for its entries
FORM = {
    Tensor.dim,
    Tensor.size,
    Tensor.numel,
    Tensor.is_floating_point,
    Tensor.is_complex,
    Tensor.__len__,
    *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "is_nested")),
}


class NoRuleError(NotImplementedError):
    """An operation on dual numbers that has no rule here."""


class Dual(Tensor):
    """value + ε·tangent, of one shape. ε belongs to `level`; both parts may be duals of lower levels.

    It is a tensor in name only, so that a module takes it for a parameter.

    Attributes:
        shared: whether another dual may be a view of it, or it of another: it is not to be changed in place.
    """

    value: Tensor
    tangent: Tensor
    level: int
    shared: bool = False

    @staticmethod
    def __new__(cls, value: Tensor, tangent: Tensor, level: int) -> Dual:
        make: Any = torch.Tensor._make_wrapper_subclass
        made: Dual = make(cls, value.shape, dtype=value.dtype, device=value.device)
        made.value, made.tangent, made.level = value, tangent, level
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in FORM:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args)
        name, given = func.__name__, dict(kwargs or {})
        in_place = given.pop("inplace", False)
        if name not in RULES and name.endswith("_") and name[:-1] in RULES:
            name, in_place = name[:-1], True
            func = getattr(Tensor, name)
        found = RULES.get(name)
        if found is None:
            raise NoRuleError(name)
        try:
            result = found(func, *args, **given)
        except (TypeError, AttributeError) as error:  # an argument that the rule does not know, or that moves
            raise NoRuleError(f"{name}: {error}") from error
        return _put_into(args[0], result) if in_place else result

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise NoRuleError(str(func))


def _put_into(x: Any, result: Any) -> Dual:
    """x as an operation in place leaves it."""
    if (
        not is_dual(x)
        or not is_dual(result)
        or x.shared
        or (x.shape, x.dtype) != (result.shape, result.dtype)
    ):
        raise NoRuleError("in place")
    x.value, x.tangent, x.level = result.value, result.tangent, result.level
    return x


def jvp(
    function: Callable[..., tuple[Tensor, Any]], at: Sequence[Tensors], along: Sequence[Tensors]
) -> tuple[Tensor, Tensor, Any]:
    """(f(θ), Df(θ)[u], aux) of a function that returns (f, aux); duals within aux are left as they are.

    Args:
        at: the function's arguments, tensors or duals by name.
        along: for each of them a direction, by the same names.

    Raises:
        NoRuleError: `function` uses an operation that has no rule.
    """
    level = 1 + max(level_of(*tensors.values()) for tensors in (*at, *along))
    moving = [
        {name: Dual(x, direction[name], level) for name, x in tensors.items()}
        for tensors, direction in zip(at, along, strict=True)
    ]
    result, aux = function(*moving)
    value, tangent = parts(result, level)
    return value, torch.zeros_like(value) if tangent is None else tangent, aux


def primal(x: Tensor) -> Tensor:
    """x without anything infinitesimal, on all levels."""
    while isinstance(x, Dual):
        x = x.value
    return x


def rule(*names: str) -> Callable[[R], R]:
    """Registers (function, *its arguments) → result for torch's functions and methods of these names."""

    def register(function: R) -> R:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def is_dual(x: Any) -> TypeGuard[Dual]:
    return isinstance(x, Dual)


def level_of(*numbers: Any) -> int:
    """The highest level among them; 0 where none is a dual."""
    return max((x.level for x in numbers if isinstance(x, Dual)), default=0)


def parts(x: Any, level: int) -> tuple[Any, Any]:
    """(value, tangent) by the ε of `level`; without one, x is constant and its tangent None."""
    return (x.value, x.tangent) if isinstance(x, Dual) and x.level == level else (x, None)


def total(*terms: Tensor | None) -> Tensor:
    """The sum of the terms there are."""
    return reduce(torch.add, [term for term in terms if term is not None])


def still(x: Tensor) -> Tensor:
    """0 of x's shape: what does not move."""
    return torch.zeros_like(primal(x))


def only(given: Mapping[str, Any], **known: Any) -> None:
    """Raises NoRuleError where an argument differs from the only value that the rule knows; else None."""
    for name, value in given.items():
        if value != known.get(name):
            raise NoRuleError(f"{name}={value!r}")
