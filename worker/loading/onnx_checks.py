"""What an ONNX file must be before anything is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, checker, helper, inliner

from worker.loading.errors import LoadError, corrupt, quoted
from worker.loading.kinds import kind_of
from worker.loading.onnx_nodes import STANDARD
from worker.loading.onnx_tensors import tensors_within

MOST_BYTES = 2**31 - 1  # as protobuf itself
MOST_NODES = 10_000
MOST_TENSORS = 20_000
MOST_DEPTH = 50  # of functions within functions
MOST_NAME = 500
OPSETS = range(18, 24)
LARGE = 1 << 16  # bytes of a tensor that the checker has no need to see
EXPORT = (
    "torch.onnx.export(model.eval(), (inputs,), 'network.onnx', dynamo=True, optimize=False, "
    "external_data=False, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
)


def parsed(path: Path) -> ModelProto:
    kind = kind_of(path)
    if kind != "of no kind we know":
        unsafe = kind in ("a zip archive", "a pickle")
        raise LoadError(
            "unsafe_file" if unsafe else "unknown_format",
            f"The network is {kind}, no ONNX file"
            + (", and loading one can run code" if unsafe else "")
            + f". Export it: {EXPORT}.",
        )
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise LoadError("sample_too_large", f"The ONNX file has {size:,} bytes; {MOST_BYTES:,} at most.")
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as broken:
        raise corrupt("The ONNX file", "it is no protobuf message of a model") from broken
    if not model.HasField("graph"):
        raise corrupt("The ONNX file", "it holds no graph")
    if not model.graph.output:
        raise corrupt("The ONNX file", "its graph has no output")
    _check_texts(model)
    return model


def _check_texts(model: ModelProto) -> None:
    """Raises LoadError for text that is no UTF-8: protobuf hands it on, as bytes where `str` is promised."""
    left: list[Message] = [model]
    while left:
        for field, value in left.pop().ListFields():
            several = value if field.is_repeated else (value,)
            if field.type == field.TYPE_MESSAGE:
                left += several
            elif field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in several):
                raise corrupt("The ONNX file", f"its {field.name} holds text that is no UTF-8")


def within_limits(model: ModelProto) -> None:
    """Raises LoadError where the model has data in other files, or is too large for more to be made of it."""
    graph = model.graph
    external = [
        t.name for t in tensors_within(model) if t.data_location == TensorProto.EXTERNAL or t.external_data
    ]
    if external:
        first = ", ".join(map(quoted, external[:5]))
        raise LoadError(
            "external_data",
            f"The data of {len(external)} tensors ({first}) are in other files. Put them into the graph: "
            "external_data=False in torch.onnx.export.",
        )
    if graph.sparse_initializer or model.training_info:
        raise LoadError("unsupported_graph", "Sparse tensors and training information are not supported.")
    _without_subgraphs(model)
    nodes, tensors = _expanded_nodes(model), len(graph.initializer)
    if nodes > MOST_NODES or tensors > MOST_TENSORS:
        raise LoadError(
            "graph_too_large",
            f"The graph has {nodes:,} nodes and {tensors:,} tensors; {MOST_NODES:,} nodes and "
            f"{MOST_TENSORS:,} tensors at most.",
        )
    names = {
        *(name for node in graph.node for name in (*node.input, *node.output)),
        *(tensor.name for tensor in graph.initializer),
        *(entry.name for entry in (*graph.input, *graph.output)),
    }
    wrong = [name for name in names if name and (len(name) > MOST_NAME or not name.isprintable())]
    if wrong:
        raise LoadError(
            "corrupt_file", f"A name in the graph is too long, or can't be printed: {quoted(min(wrong))}."
        )


def _without_subgraphs(model: ModelProto) -> None:
    """No operator with a graph in it is supported, and what it calls would not be counted."""
    graphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    found = {
        node.op_type
        for nodes in (model.graph.node, *(function.node for function in model.functions))
        for node in nodes
        if any(a.type in graphs or a.HasField("g") or a.graphs for a in node.attribute)
    }
    if found:
        raise LoadError(
            "unsupported_operator",
            "The graph has operators with graphs in them, which are not supported: "
            f"{', '.join(map(quoted, sorted(found)[:20]))}. Write the network without them.",
        )


def _expanded_nodes(model: ModelProto) -> int:
    """How many nodes the graph has once its functions are put in their places: they may multiply."""
    counts: dict[tuple[str, str, str], int] = {}
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}

    def count(nodes: Any, above: tuple[tuple[str, str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = node.domain, node.op_type, node.overload
            if key in functions and key not in counts:
                if key in above or len(above) > MOST_DEPTH:
                    raise LoadError(
                        "graph_too_large", f"The function {quoted(node.op_type)} is in itself, or too deep."
                    )
                counts[key] = count(functions[key].node, (*above, key))
            total += counts.get(key, 1)
        return total

    return count(model.graph.node, ())


def opset_of(model: ModelProto) -> int:
    found: list[int] = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    if len(found) != 1 or found[0] not in OPSETS:
        raise LoadError(
            "unsupported_opset",
            f"The graph is written for ONNX's opset {found[0] if found else 'of no version'}; {OPSETS[0]} to "
            f"{OPSETS[-1]} are supported. Export it: {EXPORT}.",
        )
    return found[0]


def checked_nodes(model: ModelProto) -> list[NodeProto]:
    """The graph's nodes with functions put in their places, if ONNX's own checker lets the model pass.

    The checker is not shown the large tensors: it would copy them.
    """
    graph, bare = model.graph, ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.graph.name = graph.name
    bare.graph.node.extend(graph.node)
    bare.graph.input.extend(graph.input)
    bare.graph.output.extend(graph.output)
    declared = {entry.name for entry in graph.input}
    for tensor in graph.initializer:
        if tensor.ByteSize() <= LARGE:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            bare.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    try:
        checker.check_model(bare)
        if model.functions:
            bare = inliner.inline_local_functions(bare)
    except (checker.ValidationError, RuntimeError, ValueError) as wrong:
        why = (str(wrong).strip() or type(wrong).__name__).splitlines()[0].rstrip(".")
        raise LoadError(
            "invalid_graph", f"ONNX's own checker refuses the graph: {quoted(why)}. Export it anew: {EXPORT}."
        ) from wrong
    return list(bare.graph.node)
