"""The canonical graph: one safetensors file, whose tensors are the parameters, buffers and constants, and
whose metadata tell under "graph" what is computed of them, as JSON:

    {"inputs": [{"name", "dtype", "shape"}],   null in a shape: any size, the first axis is the batch
     "outputs": [name], "nodes": [{"op", "inputs", "outputs", "attributes"}],   in an order that can be run
     "parameters": [name], "buffers": [name], "tied": {name: the parameter it is}}

The tensors that are neither parameters nor buffers are constants. An input "" of a node is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

DTYPES: dict[str, tuple[str, torch.dtype]] = {
    "BOOL": ("?", torch.bool),
    "U8": ("u1", torch.uint8),
    "I8": ("i1", torch.int8),
    "I16": ("<i2", torch.int16),
    "I32": ("<i4", torch.int32),
    "I64": ("<i8", torch.int64),
    "F32": ("<f4", torch.float32),
    "F64": ("<f8", torch.float64),
}


@dataclass(frozen=True)
class Node:
    """One operator with what it reads, what it makes, and its attributes."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Input:
    """What goes in: None in `shape` is any size; `dtype` is numpy's name."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """What is computed, without the values of its tensors."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    tied: Mapping[str, str]

    @property
    def operators(self) -> list[str]:
        return sorted({node.op for node in self.nodes})

    def as_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def from_json(text: str) -> Graph:
    told = json.loads(text)
    return Graph(
        inputs=tuple(Input(i["name"], i["dtype"], tuple(i["shape"])) for i in told["inputs"]),
        outputs=tuple(told["outputs"]),
        nodes=tuple(
            Node(n["op"], tuple(n["inputs"]), tuple(n["outputs"]), n["attributes"]) for n in told["nodes"]
        ),
        parameters=tuple(told["parameters"]),
        buffers=tuple(told["buffers"]),
        tied=told["tied"],
    )


def read(path: Path, *, values: bool = True) -> tuple[Graph, dict[str, torch.Tensor]]:
    """The graph of a canonical file, and its tensors.

    Args:
        values: whether those of parameters and buffers are read; else they are on the meta device.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    graph = from_json(header.pop("__metadata__")["graph"])
    absent = set() if values else {*graph.parameters, *graph.buffers}
    return graph, {
        name: _tensor(path, 8 + length, entry, name not in absent) for name, entry in header.items()
    }


def _tensor(path: Path, start: int, entry: Mapping[str, Any], values: bool) -> torch.Tensor:
    stored, dtype = DTYPES[entry["dtype"]]
    shape, (begin, _) = entry["shape"], entry["data_offsets"]
    if not values:
        return torch.empty(shape, dtype=dtype, device="meta")
    flat = np.fromfile(path, stored, prod(shape), offset=start + begin)
    return torch.from_numpy(flat).reshape(shape)
