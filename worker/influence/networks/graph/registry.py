"""The operators there are: what each is called in ONNX, the function that computes it, and which of its
inputs must be known from shapes alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch

Tensor = torch.Tensor
Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


class GraphError(ValueError):
    """The graph can't be run: says which operator, and why."""


class TooLargeError(GraphError):
    """A value would have too many entries."""


class Operator(NamedTuple):
    """An ONNX operator.

    Attributes:
        function: (inputs in ONNX's order, attributes by name) → a tensor, or a tuple where there are many.
        host: positions of inputs that `function` takes as Python numbers: shapes, axes, indices of slices.
        form: positions of inputs of which `function` asks for shape and type alone.
        sequence: whether it makes one sequence of tensors, rather than tensors.
        floating: whether `function` asks as `floating` for the type that the network computes in.
        kind: the file it is in, in words.
    """

    function: Function
    host: frozenset[int]
    form: frozenset[int]
    sequence: bool
    floating: bool
    kind: str

    @property
    def attributes(self) -> frozenset[str]:
        """Those that a node may have."""
        return _named(self.function) - {"floating"}


OPERATORS: dict[str, Operator] = {}


def operator(
    *names: str, host: Sequence[int] = (), form: Sequence[int] = (), sequence: bool = False
) -> Callable[[F], F]:
    """Registers the function that computes the ONNX operators of these names."""

    def register(function: F) -> F:
        kind = function.__module__.rpartition(".")[2].replace("_", " ")
        floating = "floating" in _named(function)
        found = Operator(function, frozenset(host), frozenset(form), sequence, floating, kind)
        OPERATORS.update(dict.fromkeys(names, found))
        return function

    return register


@cache
def _named(function: Function) -> frozenset[str]:
    """The arguments of a function that are given by name alone."""
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def positive(axis: int, dimensions: int) -> int:
    """The axis counted from the front."""
    return axis % dimensions if dimensions else 0
