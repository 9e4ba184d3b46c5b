"""What is left to be computed of a graph for inputs of one shape: calls on numbered values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from worker.influence.networks.graph.document import Graph
from worker.influence.networks.graph.fusion import fuse
from worker.influence.networks.graph.planning import Step, draft, entries
from worker.influence.networks.graph.registry import Tensor


class Call(NamedTuple):
    """By numbers of values: what goes in, what comes out, and what nobody asks for after that."""

    function: Callable[..., Any]
    args: tuple[int, ...]
    outputs: tuple[int, ...]
    many: bool
    done: tuple[int, ...]


class Plan:
    """Called with the values of inputs, parameters and buffers, in the order of `forms`.

    Attributes:
        operators: what is called, in order.
        sizes: entries of each value that the graph makes; what is put together makes fewer.
        output_shapes: of the graph's outputs.
    """

    def __init__(
        self,
        graph: Graph,
        constants: Mapping[str, Tensor],
        forms: Mapping[str, Tensor],
        device: torch.device,
    ) -> None:
        """As `planning.draft`; `device` is the inputs'."""
        made = draft(graph, constants, forms)
        self.sizes = {
            name: entries(made.forms[name])
            for step in made.steps
            for name in step.outputs
            if name in made.forms
        }
        fuse(made)
        used = {name for step in made.steps for name in step.args} | set(made.outputs)
        known = {name: _moved(value, device) for name, value in made.known.items() if name in used}
        made_later = [name for step in made.steps for name in step.outputs if name]
        names = [*forms, *known, *made_later]
        number = {name: i for i, name in enumerate(names)}
        self._start: list[Any] = [*(known.get(name) for name in names), None]  # the last one takes what is ""
        self._calls = _calls(made.steps, number, keep={*forms, *known, *made.outputs})
        self._outputs = tuple(number[name] for name in made.outputs)
        self.operators = [step.op for step in made.steps]
        self.output_shapes = [
            tuple((made.known[name] if name in made.known else made.forms[name]).shape)
            for name in made.outputs
        ]

    def __call__(self, given: Sequence[Tensor]) -> Any:
        values = self._start.copy()
        values[: len(given)] = given
        for function, args, outputs, many, done in self._calls:
            result = function(*[values[i] for i in args])
            if many:
                for i, value in zip(outputs, result, strict=False):
                    values[i] = value
            else:
                values[outputs[0]] = result
            for i in done:
                values[i] = None
        results = [values[i] for i in self._outputs]
        return results[0] if len(results) == 1 else tuple(results)


def _calls(steps: Sequence[Step], number: Mapping[str, int], keep: set[str]) -> list[Call]:
    calls: list[Call] = []
    asked = {"", *keep}
    for step in reversed(steps):
        done = {*step.args, *step.outputs} - asked
        asked |= done
        function = partial(step.function, **step.attributes) if step.attributes else step.function
        args = tuple(number[name] for name in step.args)
        outputs = tuple(number[name] if name else -1 for name in step.outputs)
        calls.append(Call(function, args, outputs, step.many, tuple(number[name] for name in done)))
    return calls[::-1]


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(entry, device) for entry in value)
    return value.to(device) if isinstance(value, Tensor) else value
