"""Networks of any architecture, without their code: a graph of ONNX operators, each a function here."""

from worker.influence.networks.graph import (  # each registers its operators
    activations,
    arithmetic,
    attention,
    casting,
    convolution,
    indexing,
    norms,
    pooling,
    products,
    reductions,
    resizing,
    shapes,
)
from worker.influence.networks.graph.document import Graph, Input, Node
from worker.influence.networks.graph.network import GraphNetwork
from worker.influence.networks.graph.registry import OPERATORS, GraphError

__all__ = [
    "OPERATORS",
    "Graph",
    "GraphError",
    "GraphNetwork",
    "Input",
    "Node",
    "activations",
    "arithmetic",
    "attention",
    "casting",
    "convolution",
    "indexing",
    "norms",
    "pooling",
    "products",
    "reductions",
    "resizing",
    "shapes",
]
