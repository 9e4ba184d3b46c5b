"""Tries a canonical graph out, without memory, on the meta device: whether it takes batches of any size, and
nothing in it grows out of all bounds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from onnx import GraphProto, TensorProto

from worker.influence.networks.graph import GraphError, GraphNetwork, Input
from worker.influence.networks.graph.registry import TooLargeError
from worker.loading.errors import LoadError, quoted
from worker.loading.onnx_tensors import DTYPES

MOST_ENTRIES = 1 << 30  # of all values that a batch of two makes
BATCHES = (2, 3)
SINGLE_BATCHES = range(1, 33)  # sizes that may have been baked in
GUESSES = (8, 32, 224)  # for sizes that are free beside the batch
MOST_PLANNED = 20_000  # nodes, over all sizes that are tried to find why a graph fails
FREE_BATCH = (
    "Export it for batches of any size: two samples or more as example inputs, and "
    "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},) with one such entry an input."
)


def inputs_of(graph: GraphProto, initializers: Mapping[str, TensorProto]) -> tuple[Input, ...]:
    """What goes in, as the file declares it."""
    found = []
    for entry in graph.input:
        if entry.name in initializers:
            continue
        kind = entry.type.tensor_type
        if (
            not entry.type.HasField("tensor_type")
            or kind.elem_type not in DTYPES
            or not kind.HasField("shape")
        ):
            raise LoadError(
                "unsupported_dtype",
                f"The graph's input {quoted(entry.name)} must be a tensor with a known number of axes.",
            )
        shape = tuple(
            n.dim_value if n.HasField("dim_value") and n.dim_value > 0 else None for n in kind.shape.dim
        )
        if not shape:
            raise LoadError(
                "fixed_batch",
                f"The graph's input {quoted(entry.name)} has no axis for the batch. {FREE_BATCH}",
            )
        dtype = DTYPES[kind.elem_type]
        found.append(Input(entry.name, dtype, (None, *shape[1:])))
    if not found:
        raise LoadError("corrupt_file", "The graph takes no input.")
    return tuple(found)


def try_out(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Goes through the graph in `path` by shapes alone.

    Returns:
        (the outputs' shapes for one batch, its size as null; what sizes that are free beside it were taken to
        be).

    Raises:
        LoadError: an operator can't be computed, the first output's first axis is not the batch, or values
            are too large.
    """
    try:
        with torch.device("meta"):
            network = GraphNetwork.read(path)
    except GraphError as wrong:
        raise LoadError("unsupported_graph", f"The graph can't be a network: {wrong}.") from wrong
    free = any(None in entry.shape[1:] for entry in network.graph.inputs)
    for guess in GUESSES if free else GUESSES[:1]:
        try:
            found = [_shapes(network, batch, guess) for batch in BATCHES]
            break
        except GraphError as error:
            failed = error
    else:
        raise _failed(network, failed) from failed
    for batch, shapes in zip(BATCHES, found, strict=True):
        if not shapes[0] or shapes[0][0] != batch:
            raise LoadError(
                "fixed_batch",
                f"Of {batch} samples the graph makes an output of shape {list(shapes[0])}: its first axis is "
                f"not the batch. {FREE_BATCH}",
            )
    return [
        {"name": name, "shape": [a if a == b else None for a, b in zip(*both, strict=True)]}
        for name, both in zip(network.graph.outputs, zip(*found, strict=True), strict=True)
    ], guess


def _shapes(network: GraphNetwork, batch: int, guess: int) -> list[tuple[int, ...]]:
    """The outputs' shapes."""
    sizes = [(batch, *(n or guess for n in entry.shape[1:])) for entry in network.graph.inputs]
    if (largest := max(map(prod, sizes))) > MOST_ENTRIES:
        raise LoadError(
            "sample_too_large",
            f"Of {batch} samples an input has {largest:,} values; {MOST_ENTRIES:,} at most.",
        )
    inputs = [
        torch.empty(size, dtype=getattr(torch, entry.dtype), device="meta")
        for size, entry in zip(sizes, network.graph.inputs, strict=True)
    ]
    try:
        plan = network.plan_of(inputs)
    except TooLargeError as error:
        raise LoadError("sample_too_large", f"{error}.") from error
    entries = sum(plan.sizes.values())
    if entries > MOST_ENTRIES:
        name = max(plan.sizes, key=lambda name: plan.sizes[name])
        raise LoadError(
            "sample_too_large",
            f"Of {batch} samples the graph makes {entries:,} values, {plan.sizes[name]:,} of them in "
            f"{quoted(name)}; {MOST_ENTRIES:,} at most.",
        )
    return plan.output_shapes


def _failed(network: GraphNetwork, error: GraphError) -> LoadError:
    """Tells a graph that can't be computed at all from one that can for batches of one size alone."""
    free = any(None in entry.shape[1:] for entry in network.graph.inputs)
    sizes = itertools.product(SINGLE_BATCHES, GUESSES if free else GUESSES[:1])
    for batch, guess in itertools.islice(sizes, MOST_PLANNED // max(1, len(network.graph.nodes))):
        try:
            _shapes(network, batch, guess)
        except GraphError:
            continue
        return LoadError(
            "fixed_batch",
            f"The graph takes batches of {batch}, and no others ({quoted(str(error))}). {FREE_BATCH}",
        )
    return LoadError("unsupported_graph", f"The graph can't be computed: {quoted(str(error))}.")
