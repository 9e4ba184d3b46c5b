"""From a graph and the shapes of its inputs to a draft of what is to be computed: what shapes and constants
alone decide is computed now and kept, the rest is a list of calls.

Shapes are found on the meta device, where nothing of the inputs' size is computed or allocated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from worker.influence.networks.graph.document import Graph, Node
from worker.influence.networks.graph.registry import (
    OPERATORS,
    Function,
    GraphError,
    Operator,
    Tensor,
    TooLargeError,
)

MOST_KEYED = 256  # entries of a list that is looked up
# what operators raise of inputs that they cannot take: of sequences where a tensor should be, say
UNFIT = (
    RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, ArithmeticError
)  # fmt: skip
MOST_KEPT = 1 << 22  # entries of a value that is kept; larger ones are computed each time


@dataclass
class Step:
    """A call of `function` with the values named `args`, and with `attributes`, that makes `outputs`."""

    op: str
    function: Function
    args: list[str]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    many: bool = False  # the function gives a tuple of them


@dataclass
class Draft:
    """What is to be computed, by names.

    Attributes:
        known: values that are computed already: on the CPU, or Python's numbers and lists.
        forms: of all others, shape and type: tensors on the meta device, tuples of them for sequences.
        steps: what is left to be called.
        same: names that stand for the values of other names.
        formed: what operators gave of which forms, and the number of the form that they gave back, if any.
    """

    known: dict[str, Any]
    forms: dict[str, Any]
    outputs: tuple[str, ...]
    steps: list[Step] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)
    formed: dict[Any, tuple[Any, int | None]] = field(default_factory=dict)

    def name(self, name: str) -> str:
        """The name under which a value is kept."""
        while name in self.same:
            name = self.same[name]
        return name

    def filled_with(self, name: str, number: float) -> bool:
        """Whether it is known that all entries are this number."""
        value = self.known.get(name)
        return isinstance(value, Tensor) and value.is_floating_point() and bool((value == number).all())


def draft(graph: Graph, constants: Mapping[str, Tensor], forms: Mapping[str, Tensor]) -> Draft:
    """Goes through the graph once.

    Args:
        constants: on the CPU.
        forms: of inputs, parameters and buffers, on the meta device. The first floating parameter, or else
            input, tells the type that all floating values have.

    Raises:
        GraphError: an operator can't be computed of what it is given.
    """
    asked = [*graph.parameters, *(entry.name for entry in graph.inputs)]
    types = (forms[name].dtype for name in asked)
    floating = next((dtype for dtype in types if dtype.is_floating_point), torch.float32)
    known = {
        name: value.to(floating) if value.is_floating_point() else value for name, value in constants.items()
    }
    made = Draft({"": None, **known}, dict(forms), graph.outputs)
    for node in graph.nodes:
        try:
            _add(made, node, OPERATORS[node.op], floating)
        except TooLargeError:
            raise
        except KeyError as error:
            raise GraphError(
                f"{node.op} reads {error}, an output of an operator that is not made here"
            ) from error
        except UNFIT as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise GraphError(f"{node.op}, which makes {node.outputs[0]!r}: {why}") from error
    made.outputs = tuple(made.name(name) for name in graph.outputs)
    missing = [name for name in made.outputs if name not in made.known and name not in made.forms]
    if missing:
        raise GraphError(f"the output {missing[0]!r} is one of an operator's that is not made here")
    for name in made.outputs:
        if not isinstance(made.known.get(name, made.forms.get(name)), Tensor):
            raise GraphError(f"the output {name!r} is no tensor")
    return made


def _add(made: Draft, node: Node, operator: Operator, floating: torch.dtype) -> None:
    """Computes the node, or adds the step that will."""
    attributes = {**node.attributes, **({"floating": floating} if operator.floating else {})}
    args = [made.name(name) for name in node.inputs]
    while args and not args[-1]:
        args.pop()
    args = [_on_host(made, name) if i in operator.host else name for i, name in enumerate(args)]
    step = Step(node.op, operator.function, args, node.outputs, attributes)
    values = [made.known[name] if name in made.known else made.forms[name] for name in args]
    forms = [_form(value) for value in values]
    results, given = _formed(made, step, forms)
    if any(one is None for one in (results if isinstance(results, tuple) else (results,))):
        raise TypeError("an input is left out that it needs")
    step.many = isinstance(results, tuple) and not operator.sequence
    asked = [name for i, name in enumerate(args) if i not in operator.form]
    if all(name in made.known for name in asked) and entries(results) <= MOST_KEPT:
        values = [
            form if i in operator.form else x for i, (x, form) in enumerate(zip(values, forms, strict=True))
        ]
        made.known |= _named(step, operator.function(*values, **attributes))
        return
    if given is not None and args[given] not in made.known:
        made.same[node.outputs[0]] = args[given]
        return
    made.forms |= _named(step, results)
    made.steps.append(step)


def _formed(made: Draft, step: Step, forms: list[Any]) -> tuple[Any, int | None]:
    """What the step's function gives of these forms, and which of them it gives back, if it does.

    The meta device takes a millisecond for some operators, and large graphs repeat their layers: each is
    asked once.
    """
    try:
        key = (step.op, _key(step.attributes), *map(_key, forms))
    except _NoKeyError:
        return _asked(step, forms)
    if key not in made.formed:
        made.formed[key] = _asked(step, forms)
    return made.formed[key]


def _asked(step: Step, forms: list[Any]) -> tuple[Any, int | None]:
    own = [_form(form, anew=True) for form in forms]  # several names may share one form
    results = step.function(*own, **step.attributes)
    given = (i for i, form in enumerate(own) if results is form and form is not None)
    return results, next(given, None)


class _NoKeyError(Exception):
    """It would cost more to look up than to compute."""


def _key(value: Any) -> Any:
    """What of a form, or of an attribute, decides about the forms that follow from it."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple | dict):
        if len(value) > MOST_KEYED:
            raise _NoKeyError
        parts = value.items() if isinstance(value, dict) else value
        return type(value), *map(_key, parts)
    return type(value), value


def _on_host(made: Draft, name: str) -> str:
    """The name under which a known value is kept as Python's numbers."""
    if not name:
        return name
    if name not in made.known:
        raise GraphError(f"{name!r} depends on data, but must follow from shapes")
    value = made.known[name]
    if not isinstance(value, Tensor):
        return name
    host = f"{name}\nas numbers"  # no name in a canonical graph has a line break
    made.known[host] = value.tolist()
    return host


def _form(value: Any, *, anew: bool = False) -> Any:
    if isinstance(value, tuple):
        return tuple(_form(entry, anew=anew) for entry in value)
    if isinstance(value, Tensor) and (anew or value.device.type != "meta"):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return value


def entries(value: Any) -> int:
    """How many numbers a tensor, or a sequence of them, holds."""
    return sum(map(entries, value)) if isinstance(value, tuple) else value.numel()


def _named(step: Step, results: Any) -> dict[str, Any]:
    """What a step gave, by name; outputs that nobody asks for have none."""
    listed = results if step.many else (results,)
    return {name: value for name, value in zip(step.outputs, listed, strict=False) if name}
