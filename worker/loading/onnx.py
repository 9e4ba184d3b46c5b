"""Accepts a network as an ONNX graph: data, never code. What is accepted is written as a canonical graph (see
`worker.influence.networks.graph.document`), and nothing else opens the stranger's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from worker.influence.networks.graph import Graph
from worker.loading.onnx_apart import check_apart
from worker.loading.onnx_checks import checked_nodes, opset_of, parsed, within_limits
from worker.loading.onnx_nodes import nodes_of
from worker.loading.onnx_roles import Roles, renamed, roles_of
from worker.loading.onnx_run import inputs_of, try_out
from worker.loading.onnx_tensors import Form, blocks, form_of
from worker.loading.source import BLOCK_BYTES, Block, ranges
from worker.loading.tensors import write_tensors


@dataclass(frozen=True)
class GraphInfo:
    """What a graph is; in the shapes of inputs and outputs null is any size, and the first axis the batch."""

    opset: int
    num_nodes: int
    num_parameters: int
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    operators: list[str]
    parameters: list[str]
    buffers: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_onnx(path: Path, out_path: Path) -> GraphInfo:
    """Accepts the ONNX file in `path` and writes it to `out_path` as a canonical graph.

    Args:
        path: a stranger's file.
        out_path: where to write; nothing is left there if the file is refused.

    Raises:
        LoadError: the file is refused: no ONNX file, or damaged, too large, with data in other files, with
            operators or attributes that are not supported (`errors` names each), not for batches of any
            size, or one that mixes their samples.
    """
    model = parsed(path)
    within_limits(model)
    opset = opset_of(model)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, constants = nodes_of(checked_nodes(model))
    inputs = inputs_of(model.graph, initializers)
    roles = roles_of(model, nodes, initializers)
    nodes, initializers = renamed(nodes, initializers, roles)
    outputs = tuple(output.name for output in model.graph.output)
    graph = Graph(inputs, outputs, nodes, tuple(roles.parameters), tuple(roles.buffers), roles.tied)
    try:
        _write(out_path, graph, {**initializers, **constants}, roles)
        shapes, guess = try_out(out_path)
        check_apart(out_path, guess)
    except BaseException:
        out_path.unlink(missing_ok=True)
        raise
    return GraphInfo(
        opset=opset,
        num_nodes=len(nodes),
        num_parameters=sum(prod(initializers[n].dims) for n in roles.parameters if n in initializers),
        inputs=[{"name": i.name, "dtype": i.dtype, "shape": list(i.shape)} for i in inputs],
        outputs=shapes,
        operators=graph.operators,
        parameters=list(roles.parameters),
        buffers=list(roles.buffers),
    )


def _write(path: Path, graph: Graph, tensors: Mapping[str, TensorProto], roles: Roles) -> None:
    """Parameters and buffers in their order, then the constants that are used."""
    used = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
    held = [*graph.parameters, *graph.buffers]
    forms: dict[str, Form] = {
        name: roles.absent[name] if name in roles.absent else form_of(name, tensors[name])
        for name in [*held, *(name for name in tensors if name in used and name not in held)]
    }

    def values() -> Iterator[tuple[str, Block]]:
        for name, form in forms.items():
            absent = name in roles.absent
            for part in _zeros(form) if absent else blocks(tensors[name]):
                yield name, part

    write_tensors(
        path, {name: (f.dtype, f.shape) for name, f in forms.items()}, values(), {"graph": graph.as_json()}
    )


def _zeros(form: Form) -> Iterator[Block]:
    for _, count in ranges(prod(form.shape), BLOCK_BYTES // 8):
        yield np.zeros(count, form.dtype)
