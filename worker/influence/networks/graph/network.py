"""A network that is known by its graph alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worker.influence.networks.graph.document import Graph, read
from worker.influence.networks.graph.plan import Plan
from worker.influence.networks.graph.registry import GraphError
from worker.influence.networks.graph.transforms import outside_transforms

MOST_PLANS = 16


class GraphNetwork(nn.Module):
    """Computes a canonical graph (see `document`), with its parameters and buffers under the names they have
    in the state_dict of the network that was exported.

    It computes as in evaluation mode, whatever mode it is in. Its constants are moved to the inputs' device.
    """

    def __init__(self, graph: Graph, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self._graph = graph
        self._constants = {
            name: value
            for name, value in tensors.items()
            if name not in graph.parameters and name not in graph.buffers
        }
        self._plans: dict[Any, Plan] = {}
        self._places: dict[str, tuple[nn.Module, str]] = {}
        for name in graph.parameters:
            self._hold(name, nn.Parameter(tensors[name], requires_grad=tensors[name].is_floating_point()))
        for name in graph.buffers:
            self._hold(name, tensors[name])
        for name, parameter in graph.tied.items():
            self._hold(name, self.get_parameter(parameter))

    @classmethod
    def read(cls, path: Path) -> GraphNetwork:
        """The network of a canonical file; under `torch.device("meta")` without the values of its parameters
        and buffers, for `torch.func.functional_call` to fill."""
        values = torch.get_default_device().type != "meta"
        return cls(*read(path, values=values)).eval()

    @property
    def graph(self) -> Graph:
        return self._graph

    def _hold(self, name: str, value: Tensor) -> None:
        """Puts a tensor where its name says; raises GraphError for a name that no module can have."""
        *path, leaf = name.split(".")
        holder: nn.Module = self
        try:
            for part in path:
                if part not in holder._modules:
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            if isinstance(value, nn.Parameter):
                holder.register_parameter(leaf, value)
            else:
                holder.register_buffer(leaf, value)
        except (KeyError, AttributeError) as error:
            raise GraphError(f"no tensor of a module can be named {name!r} beside the others") from error
        self._places[name] = (holder, leaf)

    def forward(self, *inputs: Tensor) -> Any:
        """The graph's output, or a tuple of them."""
        held = [getattr(holder, leaf) for holder, leaf in self._places.values()]
        return self._plan(inputs, held)([*inputs, *held])

    def plan_of(self, inputs: Sequence[Tensor]) -> Plan:
        """What is computed of inputs of these shapes and types.

        Raises:
            GraphError: they don't fit the graph.
        """
        return self._plan(inputs, [getattr(holder, leaf) for holder, leaf in self._places.values()])

    def _plan(self, inputs: Sequence[Tensor], held: Sequence[Tensor]) -> Plan:
        key = tuple((x.shape, x.dtype, x.device) for x in inputs), tuple(x.dtype for x in held[:1])
        if key in self._plans:
            return self._plans[key]
        if len(inputs) != len(self._graph.inputs):
            raise GraphError(f"{len(inputs)} inputs, but the graph takes {len(self._graph.inputs)}")
        names = [*(entry.name for entry in self._graph.inputs), *self._places]
        with outside_transforms():
            forms = {
                name: torch.empty(x.shape, dtype=x.dtype, device="meta")
                for name, x in zip(names, [*inputs, *held], strict=True)
            }
            made = Plan(self._graph, self._constants, forms, inputs[0].device)
        while len(self._plans) >= MOST_PLANS:
            del self._plans[next(iter(self._plans))]
        self._plans[key] = made
        return made
