"""The tensors of an ONNX file: what they are, and their values in canonical types."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from worker.loading.errors import LoadError, corrupt, quoted
from worker.loading.source import BLOCK_BYTES, MOST_DIMENSIONS, Block

# ONNX's type → the canonical one; half precision is computed in float32
DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float32",
    TensorProto.BFLOAT16: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.BOOL: "bool",
}
STORED: dict[int, str] = {
    TensorProto.FLOAT: "<f4",
    TensorProto.FLOAT16: "<f2",
    TensorProto.BFLOAT16: "<u2",
    TensorProto.DOUBLE: "<f8",
    TensorProto.UINT8: "u1",
    TensorProto.INT8: "i1",
    TensorProto.INT16: "<i2",
    TensorProto.INT32: "<i4",
    TensorProto.INT64: "<i8",
    TensorProto.BOOL: "?",
}


class Form(NamedTuple):
    """A tensor's canonical dtype, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def floating(self) -> bool:
        return self.dtype.startswith("float")


def form_of(name: str, tensor: TensorProto) -> Form:
    """What the tensor is; raises LoadError where its data are not of the size that its shape asks for."""
    shape = tuple(tensor.dims)
    if tensor.data_type not in DTYPES:
        raise LoadError(
            "unsupported_dtype",
            f"The graph's tensor {quoted(name)} is of ONNX's type {tensor.data_type}; allowed are floating "
            "types, integers but for unsigned ones over 8 bits, and bool.",
        )
    if len(shape) > MOST_DIMENSIONS or any(n < 0 for n in shape):
        raise corrupt(f"The graph's tensor {quoted(name)}", f"its shape is {list(shape)[:10]}")
    count = prod(shape)
    if tensor.HasField("raw_data"):
        held = len(tensor.raw_data) / np.dtype(STORED[tensor.data_type]).itemsize
    else:
        held = _listed(tensor)
    if held != count:
        raise corrupt(
            f"The graph's tensor {quoted(name)}",
            f"its shape {list(shape)} takes {count} values, it has {held:g}",
        )
    return Form(DTYPES[tensor.data_type], shape)


def _listed(tensor: TensorProto) -> int:
    return max(
        len(tensor.float_data), len(tensor.double_data), len(tensor.int32_data), len(tensor.int64_data)
    )


def blocks(tensor: TensorProto) -> Iterator[Block]:
    """Its values, flat, a few mebibytes at a time."""
    if tensor.HasField("raw_data"):
        flat: Any = np.frombuffer(tensor.raw_data, STORED[tensor.data_type])
    else:
        flat = numpy_helper.to_array(tensor).reshape(-1)
    halved = tensor.data_type == TensorProto.BFLOAT16 and flat.dtype == np.uint16
    step = BLOCK_BYTES // 8
    for start in range(0, len(flat), step):
        block = flat[start : start + step]
        if halved:
            block = (block.astype("<u4") << 16).view("<f4")
        yield block.astype(DTYPES[tensor.data_type])


def tensors_within(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor anywhere in the model, those of its nodes' attributes too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
        for attribute in function.attribute_proto:
            yield from _of_attribute(attribute)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[TensorProto]:
    node: NodeProto
    for node in nodes:
        for attribute in node.attribute:
            yield from _of_attribute(attribute)


def _of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield from (sparse.values, sparse.indices)
    if attribute.HasField("g"):
        yield from _of_graph(attribute.g)
    for graph in attribute.graphs:
        yield from _of_graph(graph)
