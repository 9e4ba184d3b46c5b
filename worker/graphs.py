"""What is told of a canonical graph: what goes in and comes out, and which graphs are of one network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from app.catalog import OnnxConfig, Port
from worker.influence.networks.graph import Graph
from worker.influence.networks.graph.document import read
from worker.loading import GraphInfo

TABLE = 2  # axes of an embedding's weight
SIDEWAYS = ("Cast", "Identity")  # what may stand between token ids and their embedding


def described(path: Path, info: GraphInfo) -> OnnxConfig:
    """The config of a trajectory whose graph is in `path`."""
    graph, tensors = read(path, values=False)
    # where sizes beside the batch are free, further axes of an output were found for one such size alone
    free = any(None in entry["shape"][1:] for entry in info.inputs)
    outputs = [entry["shape"] for entry in info.outputs]
    outputs = [[None] * len(shape) if free and len(shape) > TABLE else shape for shape in outputs]
    first, *others = info.inputs
    return OnnxConfig(
        takes=[
            Port(**first),
            *(Port(**one, vocab_size=_vocab_size(graph, tensors, one["name"])) for one in others),
        ],
        gives=[
            Port(name=entry["name"], shape=shape, dtype="float32")
            for entry, shape in zip(info.outputs, outputs, strict=True)
        ],
        operators=info.operators,
        opset=info.opset,
        num_parameters=info.num_parameters,
        vocab_size=_vocab_size(graph, tensors, first["name"]),
        structure=_structure(graph, tensors),
    )


def _vocab_size(graph: Graph, tensors: Mapping[str, torch.Tensor], name: str) -> int | None:
    """Rows of the smallest embedding that looks up the graph's input `name`; None where there is none."""
    ids = {name}
    found = []
    for node in graph.nodes:
        if node.op in SIDEWAYS and node.inputs[0] in ids:
            ids.update(node.outputs)
        elif node.op == "Gather" and node.inputs[1] in ids and not node.attributes.get("axis", 0):
            table = tensors.get(node.inputs[0])
            if table is not None and table.dim() == TABLE:
                found.append(table.shape[0])
    return min(found, default=None)


def _structure(graph: Graph, tensors: Mapping[str, torch.Tensor]) -> str:
    """A digest of all but the values of parameters and buffers, in hexadecimal."""
    digest = hashlib.sha256(graph.as_json().encode())
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        if not value.is_meta:
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()
