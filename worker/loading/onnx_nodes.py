"""The nodes of an ONNX graph: which operators and attributes, and what of them is constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from worker.influence.networks.graph import OPERATORS, Node
from worker.loading.errors import LoadError, at, pointer, quoted

Tensors = dict[str, TensorProto]
STANDARD = ("", "ai.onnx")
PLAIN = {
    AttributeProto.FLOAT,
    AttributeProto.INT,
    AttributeProto.STRING,
    AttributeProto.FLOATS,
    AttributeProto.INTS,
    AttributeProto.STRINGS,
}


def nodes_of(listed: Sequence[NodeProto]) -> tuple[tuple[Node, ...], Tensors]:
    """The nodes that compute, in order, and the constants of those that don't.

    Raises:
        LoadError: `unsupported_operator` names all that are not supported; so does `unsupported_attribute`.
    """
    _supported(listed)
    nodes: list[Node] = []
    constants: Tensors = {}
    wrong: list[dict[str, str]] = []
    for node in listed:
        if node.op_type == "Constant":
            constants[node.output[0]] = _constant(node)
            continue
        inputs, attributes = list(node.input), {a.name: a for a in node.attribute}
        if node.op_type == "ConstantOfShape":
            value = attributes.pop("value", None)
            zero = numpy_helper.from_array(np.zeros(1, np.float32))
            inputs.append(_added(constants, node.output[0], zero if value is None else value.t))
        for name in attributes.keys() - OPERATORS[node.op_type].attributes:
            wrong.append(at(pointer(node.output[0]), f"{node.op_type} with {quoted(name)}"))
        plain = {name: _value(a) for name, a in attributes.items() if a.type in PLAIN}
        nodes.append(Node(node.op_type, tuple(inputs), tuple(node.output), plain))
    if wrong:
        named = sorted({entry["detail"] for entry in wrong})
        raise LoadError(
            "unsupported_attribute",
            f"The graph asks of its operators what is not supported: {', '.join(named[:20])}.",
            wrong,
        )
    return tuple(nodes), constants


def _supported(nodes: Iterable[NodeProto]) -> None:
    """Raises LoadError that names every operator there is no function for."""
    unknown = Counter(
        _called(node) for node in nodes if _called(node) not in OPERATORS and _called(node) != "Constant"
    )
    if unknown:
        names = [quoted(name) for name in sorted(unknown)]
        raise LoadError(
            "unsupported_operator",
            f"The graph has operators that are not supported: {', '.join(names[:50])}. Write the network "
            "without them, or export it with dynamo=True and optimize=False; docs/operators.md lists those "
            "that are.",
            [at(pointer(name), f"is used {unknown[name]} time(s)") for name in sorted(unknown)],
        )


def _called(node: NodeProto) -> str:
    """Its operator, with all that is not ONNX's own: of an overload the checker knows nothing."""
    overload = f":{node.overload}" if node.overload else ""
    return node.op_type + overload if node.domain in STANDARD else f"{node.domain}::{node.op_type}{overload}"


def _added(constants: Tensors, near: str, tensor: TensorProto) -> str:
    """The name under which a tensor out of a node's attributes is kept: none of ONNX's has a line break."""
    name = f"{near}\nvalue"
    constants[name] = tensor
    return name


def _value(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float | int):
        return value
    return [entry.decode(errors="replace") if isinstance(entry, bytes) else entry for entry in value]


def _constant(node: NodeProto) -> TensorProto:
    """The tensor that a Constant is."""
    [attribute] = node.attribute
    if attribute.name == "value":
        tensor: TensorProto = attribute.t
        return tensor
    if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
        number = np.float32 if "float" in attribute.name else np.int64
        return numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute), number))
    raise LoadError(
        "unsupported_attribute",
        f"The graph's constant {quoted(node.output[0])} is of {quoted(attribute.name)}: only tensors, "
        "numbers and lists of them are supported.",
    )
