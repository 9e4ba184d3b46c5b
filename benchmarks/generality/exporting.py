"""From a network to its graph, as a user exports it, and to the network that the service makes of it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from worker.influence.networks.graph import GraphNetwork
from worker.loading import load_onnx


def export(network: nn.Module, inputs: Sequence[Tensor], path: Path, *, opset: int | None = None) -> None:
    """Writes `network` to `path`, for batches of any size; what the exporter says of itself is not shown."""
    free = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it tells of a package it can do without
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(), tuple(inputs), path, dynamo=True, optimize=False, dynamic_shapes=free,
                external_data=False, verbose=False, opset_version=opset,
            )  # fmt: skip
    finally:
        exporter.setLevel(level)


def through_graph(network: nn.Module, inputs: Sequence[Tensor], folder: Path) -> GraphNetwork:
    """The same network, by its graph alone."""
    export(network, inputs, folder / "network.onnx")
    load_onnx(folder / "network.onnx", folder / "graph.safetensors")
    return GraphNetwork.read(folder / "graph.safetensors")
