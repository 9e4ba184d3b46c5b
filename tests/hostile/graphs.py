"""ONNX that names other files, grows without bounds, goes round in circles, or is no graph."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.hostile import good
from tests.hostile.case import READY, Case

FLOAT = TensorProto.FLOAT
Build = Callable[[], bytes]


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs, outputs, **attributes)


def model(
    nodes: Sequence[NodeProto], tensors: Sequence[TensorProto] = (), *, opset: int = 20,
    shape: Sequence[Any] = ("batch", 4), functions: Sequence[FunctionProto] = (), outputs: Sequence[str] = ("y",),
    opsets: Sequence[str] = (),
) -> ModelProto:  # fmt: skip
    graph = helper.make_graph(
        list(nodes), "graph",
        [helper.make_tensor_value_info("x", FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, FLOAT, ["batch", "n"]) for name in outputs],
        list(tensors),
    )  # fmt: skip
    versions = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in opsets)]
    return helper.make_model(graph, opset_imports=versions, ir_version=10, functions=functions)


def saved(*given: Any, **more: Any) -> bytes:
    """As `model`, in bytes."""
    data: bytes = model(*given, **more).SerializeToString()
    return data


def _built(nodes: Sequence[NodeProto], *given: Any, **more: Any) -> Build:
    return lambda: saved(nodes, *given, **more)


def _changed(change: Callable[[ModelProto], Any]) -> Build:
    def build() -> bytes:
        made = good.linear()
        change(made)
        data: bytes = made.SerializeToString()
        return data

    return build


def _external(location: str, **more: str) -> Build:
    """The weight lies in this file."""

    def change(made: ModelProto) -> None:
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return _changed(change)


def _external_constant() -> bytes:
    tensor = TensorProto(name="c", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"
    return saved([node("Constant", [], ["c"], value=tensor), node("Add", ["x", "c"])])


def _external_in_function() -> bytes:
    tensor = TensorProto(name="c", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    body = [node("Constant", [], ["c"], value=tensor), node("Add", ["x", "c"])]
    return _function(body)


def _function(body: Sequence[NodeProto], name: str = "F", more: Sequence[FunctionProto] = ()) -> bytes:
    made = helper.make_function(
        "own", name, ["x"], ["y"], list(body), [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    )
    return saved(
        [helper.make_node(name, ["x"], ["y"], domain="own")], functions=[made, *more], opsets=["own"]
    )


def _calls(depth: int, times: int) -> bytes:
    """Functions that each call the next one so many times (a billion laughs)."""
    functions = []
    for level in range(depth):
        names = ["x", *(f"t{i}" for i in range(times - 1)), "y"]
        last = level == depth - 1
        body = [
            node("Relu", [a], [b]) if last else helper.make_node(f"F{level + 1}", [a], [b], domain="own")
            for a, b in pairwise(names)
        ]
        functions.append(
            helper.make_function(
                "own",
                f"F{level}",
                ["x"],
                ["y"],
                body,
                [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)],
            )
        )
    return saved([helper.make_node("F0", ["x"], ["y"], domain="own")], functions=functions, opsets=["own"])


def _chain(op: str, count: int) -> bytes:
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    return saved([node(op, [a], [b]) for a, b in pairwise(names)])


def _doubling(count: int) -> bytes:
    """Each node puts two of the one before beside each other."""
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    return saved([node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)])


def _tensor(name: str, dims: Sequence[int], data: bytes = b"", kind: int = FLOAT) -> TensorProto:
    return TensorProto(name=name, data_type=kind, dims=dims, raw_data=data)


def _ints(name: str, values: Sequence[int]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _with(op: str, dims: Sequence[int], *others: str, **attributes: Any) -> Build:
    """An operator that is told a shape."""
    inputs = ["shape"] if op == "ConstantOfShape" else ["x", "shape", *others]
    nodes = (
        [node(op, inputs, ["t"], **attributes), node("Add", ["x", "t"])]
        if op == "ConstantOfShape"
        else [node(op, inputs)]
    )
    return _built(nodes, [_ints("shape", dims)])


def _branch(op: str) -> bytes:
    body = helper.make_graph(
        [node("Relu", ["x"], ["z"])], "body", [], [helper.make_tensor_value_info("z", FLOAT, ["batch", 4])]
    )
    if op == "If":
        made = node("If", ["c"], then_branch=body, else_branch=body)
    elif op == "Loop":
        made = node("Loop", ["n", "c", "x"], body=body)
    else:
        made = node("Scan", ["x"], body=body, num_scan_inputs=1)
    return saved([made], [_ints("n", [2**62]), numpy_helper.from_array(np.array(True), "c")])


def _nested(depth: int) -> bytes:
    body = helper.make_graph(
        [node("Relu", ["x"], ["z"])], "body", [], [helper.make_tensor_value_info("z", FLOAT, ["batch", 4])]
    )
    for _ in range(depth):
        body = helper.make_graph(
            [node("If", ["c"], ["z"], then_branch=body, else_branch=body)],
            "body",
            [],
            [helper.make_tensor_value_info("z", FLOAT, ["batch", 4])],
        )
    return saved([node("If", ["c"], then_branch=body, else_branch=body)])


def _told(told: Any) -> Build:
    text = told if isinstance(told, str) else json.dumps(told)
    return _changed(lambda made: helper.set_model_props(made, {"diffin": text}))


def _bad_text(old: bytes, new: bytes = b"\xff\xfe") -> Build:
    """Text that is no UTF-8, which protobuf lets pass."""

    def build() -> bytes:
        data = good.GOOD["graph"]
        assert old in data
        return data.replace(old, (new * len(old))[: len(old)])

    return build


def _set(**changed: Any) -> Build:
    def change(made: ModelProto) -> None:
        for name, value in changed.items():
            setattr(made.graph.initializer[0], name, value)

    return _changed(change)


def _dims(*dims: int) -> Build:
    def change(made: ModelProto) -> None:
        del made.graph.initializer[0].dims[:]
        made.graph.initializer[0].dims.extend(dims)

    return _changed(change)


FILES = {
    "up": "../../../etc/passwd", "absolute": "/etc/passwd", "of a device": "/dev/zero", "that is the network's": "network.onnx",
    "with NUL": "a\0/etc/passwd", "without a name": "", "of a process": "/proc/self/environ", "on the web": "https://169.254.169.254/latest",
}  # fmt: skip
REFUSED = "invalid_graph|unsupported_graph|corrupt_file"
CASES = [
    *(Case(f"data in a file {what}", "graph", _external(place), "external_data", "fc.weight") for what, place in FILES.items()),
    Case("data in a file, from 2**63 on", "graph", _external("w.bin", offset=str(2**63), length="-1"), "external_data", "fc.weight"),
    Case("a constant in a file", "graph", _external_constant, "external_data", "c"),
    Case("a constant in a file, in a function", "graph", _external_in_function, "external_data", "c"),
    Case("10,001 nodes", "graph", lambda: _chain("Relu", 10_001), "graph_too_large", "10,001", seed=False),
    Case("9,000 nodes in a row", "graph", lambda: _chain("Relu", 9000), READY, heavy=True, seed=False),
    Case("a constant of nothing, by another overload", "graph", _built([node("Constant", [], ["c"], overload="c"), node("Add", ["x", "c"])]), "unsupported_operator", "Constant:c"),
    Case("a constant of nothing, by another overload in a function", "graph", lambda: _function([node("Constant", [], ["c"], overload="c"), node("Add", ["x", "c"])]), "unsupported_operator", "Constant:c"),
    Case("functions: a billion nodes", "graph", lambda: _calls(9, 10), "graph_too_large"),
    Case("functions, 60 deep", "graph", lambda: _calls(60, 1), "graph_too_large", "too deep"),
    Case("a function that calls itself", "graph", lambda: _function([helper.make_node("F", ["x"], ["y"], domain="own")]), "graph_too_large", "in itself"),
    Case("a function of no name", "graph", lambda: _function([node("Relu", ["x"])], ""), "invalid_graph|ready|unsupported_operator"),
    Case("a value that doubles 60 times", "graph", lambda: _doubling(60), "sample_too_large|unsupported_graph"),
    Case("a value that doubles 9,000 times", "graph", lambda: _doubling(9000), "sample_too_large|unsupported_graph", heavy=True, seed=False),
    *(Case(f"a constant of 2**40 values by {op}", "graph", _with(op, [2**20, 2**20]), "sample_too_large|unsupported_graph|fixed_batch") for op in ("ConstantOfShape", "Expand", "Tile")),
    Case("a constant whose values are 0 mod 2**64", "graph", _with("ConstantOfShape", [2**32, 2**32]), "sample_too_large|unsupported_graph"),
    Case("a constant of a negative shape", "graph", _with("ConstantOfShape", [-1, -2**63]), "unsupported_graph"),
    Case("a reshape to 2**62", "graph", _with("Reshape", [2**62, -1]), "unsupported_graph|fixed_batch"),
    Case("a reshape of two unknowns", "graph", _with("Reshape", [-1, -1]), "unsupported_graph|fixed_batch|invalid_graph"),
    Case("padding by 2**40", "graph", _built([node("Pad", ["x", "pads"])], [_ints("pads", [0, 2**40, 0, 2**40])]), "sample_too_large|unsupported_graph"),
    Case("padding by less than none", "graph", _built([node("Pad", ["x", "pads"])], [_ints("pads", [0, -(2**62), 0, 0])]), "unsupported_graph|sample_too_large|fixed_batch"),
    Case("a range of 2**62", "graph", _built([node("Range", ["a", "b", "c"], ["t"]), node("Cast", ["t"], ["u"], to=1), node("ReduceSum", ["u"], ["v"]), node("Add", ["x", "v"])], [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("a", 0), ("b", 2**62), ("c", 1))]), "sample_too_large|unsupported_graph|unsupported_operator"),
    Case("a resize a billionfold", "graph", _built([node("Resize", ["x", "", "scales"], mode="nearest")], [numpy_helper.from_array(np.array([1, 1, 1e5, 1e5], np.float32), "scales")], shape=["batch", 1, 8, 8]), "sample_too_large|unsupported_graph"),
    Case("a convolution of 2**40 strides", "graph", _built([node("Conv", ["x", "w"], strides=[2**40, 2**40])], [_tensor("w", [1, 1, 1, 1], bytes(4))], shape=["batch", 1, 8, 8]), "unsupported_graph|ready|sample_too_large"),
    Case("a convolution of strides of none", "graph", _built([node("Conv", ["x", "w"], strides=[0, 0])], [_tensor("w", [1, 1, 1, 1], bytes(4))], shape=["batch", 1, 8, 8]), REFUSED),
    Case("a split into more than there is", "graph", _built([node("Split", ["x"], ["y", "b", "c", "d", "e", "f", "g", "h", "i", "j"], axis=1, num_outputs=10)]), "ready|unsupported_graph|invalid_graph|fixed_batch"),
    Case("a split into a million", "graph", _built([node("Split", ["x"], ["y"], axis=1, num_outputs=1_000_000)]), "ready|unsupported_graph|invalid_graph|fixed_batch|unsupported_attribute"),
    *(Case(f"a graph in a graph: {op}", "graph", partial(_branch, op), "unsupported_operator", op) for op in ("If", "Loop", "Scan")),
    Case("graphs 9 deep", "graph", lambda: _nested(8), "unsupported_operator", "If"),
    Case("graphs beyond what protobuf reads", "graph", lambda: b"\x3a" + b"\xff\xff\xff\xff\x07" + b"\x0a\xff\x01" * 1000, "corrupt_file"),
    Case("a node that reads itself", "graph", _built([node("Add", ["x", "y"])]), "invalid_graph"),
    Case("two nodes that read each other", "graph", _built([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"])]), "invalid_graph"),
    Case("a value made twice", "graph", _built([node("Relu", ["x"]), node("Tanh", ["x"])]), "invalid_graph"),
    Case("an input that is not there", "graph", _built([node("Add", ["x", "nothing"])]), "invalid_graph"),
    Case("an output that is not there", "graph", _built([node("Relu", ["x"], ["z"])]), REFUSED),
    Case("an output that is an input", "graph", _built([], outputs=["x"]), "ready|invalid_graph|unsupported_graph"),
    Case("no nodes", "graph", _built([]), REFUSED),
    Case("no outputs", "graph", _built([node("Relu", ["x"])], outputs=[]), REFUSED),
    Case("no inputs", "graph", _changed(lambda made: made.graph.ClearField("input")), "invalid_graph|corrupt_file"),
    Case("an output that is a sequence", "graph", _built([node("SplitToSequence", ["x"], axis=1)]), "unsupported_graph", "no tensor"),
    Case("a sequence with a gap", "graph", _built([node("SequenceConstruct", ["x", ""], ["s"]), node("SequenceAt", ["s", "i"])], [_ints("i", [0])]), "unsupported_graph|invalid_graph"),
    Case("a sequence where a tensor should be", "graph", _built([node("SequenceConstruct", ["x"], ["s"]), node("GlobalMaxPool", ["s"])]), "unsupported_graph|invalid_graph"),
    Case("an operator nobody knows", "graph", _built([node("Evil", ["x"])]), "invalid_graph|unsupported_operator", "Evil"),
    Case("an operator of another domain", "graph", _built([helper.make_node("Inverse", ["x"], ["y"], domain="com.microsoft")], opsets=["com.microsoft"]), "unsupported_operator", "com.microsoft::Inverse"),
    Case("an operator with an escape", "graph", _built([helper.make_node("\x1b[2J", ["x"], ["y"], domain="own")], opsets=["own"]), "unsupported_operator"),
    Case("an opset to come", "graph", _built([node("Relu", ["x"])], opset=2**31 - 1), "unsupported_opset|invalid_graph"),
    Case("an opset below none", "graph", _built([node("Relu", ["x"])], opset=-1), "unsupported_opset"),
    Case("no opset", "graph", _changed(lambda made: made.ClearField("opset_import")), "unsupported_opset"),
    Case("two opsets", "graph", _changed(lambda made: made.opset_import.add(version=18)), "unsupported_opset|invalid_graph"),
    Case("a version of its own of 2**62", "graph", _changed(lambda made: setattr(made, "ir_version", 2**62)), "invalid_graph"),
    Case("a tensor of 2**62 values", "graph", _dims(2**62), "corrupt_file|invalid_graph"),
    Case("a tensor of a negative shape", "graph", _dims(-3, -4), "corrupt_file|invalid_graph"),
    Case("a tensor whose values are 0 mod 2**64", "graph", _dims(2**32, 2**32), "corrupt_file|invalid_graph"),
    Case("a tensor of 1,000 axes", "graph", _dims(*[1] * 1000), "corrupt_file|invalid_graph"),
    Case("a tensor of no type", "graph", _set(data_type=0), "unsupported_dtype|invalid_graph|corrupt_file"),
    Case("a tensor of type 999", "graph", _set(data_type=999), "unsupported_dtype|invalid_graph"),
    Case("a tensor of text", "graph", _set(data_type=TensorProto.STRING), "unsupported_dtype|invalid_graph"),
    Case("a tensor of two types at once", "graph", _changed(lambda made: made.graph.initializer[0].float_data.extend([1.0] * 12)), "invalid_graph|corrupt_file|ready"),
    Case("a tensor listed in the wrong field", "graph", _changed(lambda made: (made.graph.initializer[0].ClearField("raw_data"), made.graph.initializer[0].int64_data.extend([1] * 12))), "corrupt_file|invalid_graph"),
    Case("a tensor that is cut", "graph", _set(raw_data=bytes(40)), "corrupt_file|invalid_graph"),
    Case("a sparse tensor of 2**60 values", "graph", _changed(lambda made: made.graph.sparse_initializer.add(dims=[2**30, 2**30])), "unsupported_graph|invalid_graph", "parse"),
    Case("a segment of a tensor", "graph", _changed(lambda made: setattr(made.graph.initializer[0].segment, "end", 2**62)), "invalid_graph|ready|corrupt_file"),
    Case("two tensors of one name", "graph", _changed(lambda made: made.graph.initializer.append(made.graph.initializer[0])), "invalid_graph|corrupt_file"),
    Case("20,001 tensors", "graph", _changed(lambda made: made.graph.initializer.extend([_tensor(f"t{i}", [0]) for i in range(20_001)])), "graph_too_large", "20,0", seed=False),
    Case("training information", "graph", _changed(lambda made: made.training_info.add()), "unsupported_graph"),
    Case("names of 1,000 characters", "graph", _built([node("Relu", ["x"], ["z" * 1000]), node("Relu", ["z" * 1000])]), "corrupt_file", "name"),
    Case("names that cannot be printed", "graph", _built([node("Relu", ["x"], ["\x1b[2J"]), node("Relu", ["\x1b[2J"])]), "corrupt_file", "name"),
    Case("a name of a value that is no UTF-8", "graph", _bad_text(b"fc.weight"), "corrupt_file", "UTF-8"),
    Case("a name of the graph that is no UTF-8", "graph", _bad_text(b"graph"), "corrupt_file", "UTF-8"),
    Case("an operator that is no UTF-8", "graph", _bad_text(b"Gemm"), "corrupt_file", "UTF-8"),
    Case("a parameter called as a method", "graph", _told({"parameters": ["forward", "fc.weight", "fc.bias"], "unused": {"forward": {"dtype": "float32", "shape": [1]}}}), "unsupported_graph|ready"),
    Case("a parameter within a parameter", "graph", _told({"parameters": ["fc.weight", "fc.bias", "fc.weight.x"], "unused": {"fc.weight.x": {"dtype": "float32", "shape": [1]}}}), "unsupported_graph"),
    Case("a parameter of an empty name", "graph", _told({"parameters": ["", "fc.weight", "fc.bias"], "unused": {"": {"dtype": "float32", "shape": [1]}}}), "unsupported_graph"),
    Case("parameters that are not there, of 2**60 values", "graph", _told({"parameters": ["a"], "unused": {"a": {"dtype": "float32", "shape": [2**30, 2**30]}}}), "corrupt_file", "diffin"),
    Case("metadata a hundred thousand deep", "graph", _told('{"parameters":' * 100_000), "corrupt_file", "diffin", seed=False),
    Case("metadata that are a list", "graph", _told([1, 2]), "corrupt_file", "diffin"),
    Case("metadata with an integer of 10,000 digits", "graph", _told('{"parameters": ' + "9" * 10_000 + "}"), "corrupt_file", "diffin"),
    Case("tied names that go round", "graph", _told({"parameters": ["fc.weight", "fc.bias"], "tied": {"fc.weight": "fc.bias", "fc.bias": "fc.weight"}}), "corrupt_file|ready|unsupported_graph"),
    Case("an input of no batch", "graph", _built([node("Relu", ["x"])], shape=[]), "fixed_batch|invalid_graph"),
    Case("an input of 2**40 features", "graph", _built([node("Relu", ["x"])], shape=["batch", 2**40]), "sample_too_large|unsupported_graph"),
    Case("an input of 2**62 features", "graph", _built([node("Relu", ["x"])], shape=["batch", 2**62]), "sample_too_large|unsupported_graph"),
    Case("an input of negative features", "graph", _built([node("Relu", ["x"])], shape=["batch", -5]), "ready|invalid_graph|unsupported_graph"),
    Case("an output that is not the batch", "graph", _built([node("ReduceSum", ["x"], keepdims=0)]), "fixed_batch"),
    Case("a softmax over the batch", "graph", _built([node("Softmax", ["x"], axis=0)]), "mixed_samples", "/outputs/y"),
    Case("a transpose that is told no axes, of what it is multiplied with", "graph", _built([node("Transpose", ["x"], ["t"]), node("MatMul", ["x", "t"])]), "mixed_samples", "/outputs/y"),
    Case("an attribute of the wrong type", "graph", _built([node("Gemm", ["x", "x"], transB="evil")]), "invalid_graph|unsupported_graph"),
    Case("a softmax over axis 2**62", "graph", _built([node("Softmax", ["x"], axis=2**62)]), "unsupported_graph|invalid_graph"),
    Case("an equation that is a program", "graph", _built([node("Einsum", ["x", "x"], equation="__import__('os').system('id')")]), "unsupported_graph|unsupported_operator|invalid_graph"),
    Case("noise", "graph", lambda: bytes(range(1, 256)) * 8, "corrupt_file"),
    Case("a message of nothing", "graph", lambda: b"\x08\x0a", "corrupt_file"),
    Case("HTML", "graph", lambda: b"<!doctype html><script>alert(1)</script>" * 20, "corrupt_file"),
]  # fmt: skip
