"""Each operator against ONNX's own reference, whatever of its inputs is data and whatever is known."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch.func import jvp, vmap

from worker.influence.networks.graph import OPERATORS, Graph, GraphNetwork, Input, Node

# torch 2.13 itself compiles decompositions for forward mode with what it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM = np.random.default_rng(0)


class Case(NamedTuple):
    op: str
    inputs: list[Array]
    attributes: dict[str, Any] = {}  # noqa: RUF012
    outputs: int = 1


def f(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def i(*values: int) -> Array:
    return np.array(values, np.int64)


def number(value: float) -> Array:
    return np.array(value, np.float32 if isinstance(value, float) else np.int64)


X, IMAGE, POSITIVE = f(3, 4), f(2, 4, 6, 6), np.abs(f(3, 4)) + 0.1
ELEMENTWISE = [
    "Abs", "Atan", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "HardSigmoid",
    "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Mish", "Neg", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh",
    "Gelu", "LogSoftmax", "Softmax", "Size", "Shape", "ThresholdedRelu", "Flatten", "Transpose",
]  # fmt: skip
BINARY = [
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "PRelu", "Sum", "Mean", "MatMul",
]  # fmt: skip
REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceSumSquare",
]  # fmt: skip
NEWER = ("Attention", "GroupNormalization", "RMSNormalization")
WITHOUT_SLOPE = [
    "Shape", "Size", "IsInf", "IsNaN", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Cast", "CastLike", "EyeLike", "Sign", "Round", "Floor", "Ceil",
]  # fmt: skip

CASES = [
    *(Case(op, [X]) for op in ELEMENTWISE),
    *(Case(op, [POSITIVE]) for op in ("Sqrt", "Log")),
    *(Case(op, [np.clip(X, -0.9, 0.9)]) for op in ("Asin", "Acos")),
    *(Case(op, [X, f(1, 4) if op != "MatMul" else f(4, 2)]) for op in BINARY),
    *(Case(op, [X > 0, f(3, 4) > 0]) for op in ("And", "Or", "Xor")),
    Case("Not", [X > 0]),
    Case("Div", [i(7, -7, 8), i(2, 2, -3)]),
    Case("Mod", [i(7, -7, 8), i(3, 3, -3)]),
    Case("Mod", [X, f(3, 4)], {"fmod": 1}),
    Case("Pow", [POSITIVE, number(2.0)]),
    Case("Pow", [POSITIVE, number(0.5)]),
    Case("Pow", [POSITIVE, f(3, 4)]),
    Case("Clip", [X, number(-0.5), number(0.5)]),
    Case("Where", [X > 0, X, f(3, 4)]),
    Case("Gelu", [X], {"approximate": "tanh"}),
    Case("Softmax", [IMAGE], {"axis": 1}),
    Case("Cast", [X], {"to": TensorProto.INT64}),
    Case("CastLike", [X, i(1)]),
    *(Case(op, [POSITIVE, i(-1)], {"keepdims": 0}) for op in REDUCTIONS),
    *(Case(op, [POSITIVE]) for op in (*REDUCTIONS, "ReduceLogSumExp", "ReduceLogSum")),
    Case("ReduceSum", [X], {"noop_with_empty_axes": 1}),
    Case("ArgMax", [X], {"axis": 1, "keepdims": 0}),
    Case("ArgMin", [X], {"axis": -1}),
    *(Case("CumSum", [X, number(1)], {"exclusive": e, "reverse": r}) for e in (0, 1) for r in (0, 1)),
    Case("Gemm", [f(3, 4), f(5, 4), f(5)], {"transB": 1}),
    Case("Gemm", [f(4, 3), f(4, 5), f(3, 5)], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Einsum", [f(2, 3, 4), f(5, 4)], {"equation": "bij,kj->bik"}),
    Case("Reshape", [f(2, 3, 4), i(0, -1)]),
    Case("Reshape", [f(2, 3, 4), i(6, 4)], {"allowzero": 1}),
    Case("Flatten", [IMAGE], {"axis": -2}),
    Case("Flatten", [IMAGE], {"axis": 0}),
    Case("Transpose", [IMAGE], {"perm": [0, 2, 3, 1]}),
    Case("Squeeze", [f(3, 1, 4, 1), i(1)]),
    Case("Squeeze", [f(3, 1, 4, 1)]),
    Case("Unsqueeze", [X, i(0, -1)]),
    Case("Expand", [f(3, 1), i(2, 1, 4)]),
    Case("Expand", [f(3, 1), i(4)]),
    Case("Tile", [X, i(2, 3)]),
    Case("ConstantOfShape", [i(2, 3)]),
    Case("Range", [number(2), number(11), number(3)]),
    Case("Range", [number(0.0), number(1.0), number(0.25)]),
    Case("EyeLike", [X], {"k": 1}),
    Case("Concat", [X, f(3, 2)], {"axis": 1}),
    Case("Split", [f(7, 2), i(3, 4)], {"axis": 0}, 2),
    Case("Split", [f(7, 2)], {"num_outputs": 3}, 3),
    Case("Slice", [IMAGE, i(1, -3), i(9, -1), i(2, 3)]),
    Case("Slice", [IMAGE, i(-1), i(-9), i(2), i(-2)]),
    Case("Slice", [IMAGE, i(5), i(2), i(1)]),
    Case("Pad", [IMAGE, i(0, 0, 1, 2, 0, 0, 0, 1), number(0.5)]),
    *(Case("Pad", [IMAGE, i(0, 0, 1, 2, 0, 0, 0, 1)], {"mode": m}) for m in ("reflect", "edge", "wrap")),
    Case("Trilu", [X]),
    Case("Trilu", [X, number(-1)], {"upper": 0}),
    Case("DepthToSpace", [IMAGE], {"blocksize": 2}),
    Case("DepthToSpace", [IMAGE], {"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", [IMAGE], {"blocksize": 2}),
    Case("Gather", [X, i(0, -1, 2)]),
    Case("Gather", [IMAGE, i(0, -1, 2).reshape(3, 1)], {"axis": 2}),
    Case("Gather", [IMAGE, number(-2)], {"axis": 1}),
    Case("Gather", [i(4, 5, 6), number(1)]),
    Case("GatherElements", [X, i(0, -1, 2).reshape(3, 1)], {"axis": 1}),
    Case("GatherND", [IMAGE, i(0, 1, 1, 3).reshape(2, 2)]),
    Case("GatherND", [IMAGE, i(1, 3).reshape(2, 1)], {"batch_dims": 1}),
    Case("ScatterElements", [X, i(0, 1, -1).reshape(3, 1), f(3, 1)], {"axis": 1}),
    Case("ScatterElements", [X, i(0, 1, 2).reshape(3, 1), f(3, 1)], {"axis": 1, "reduction": "add"}),
    Case("ScatterND", [X, i(0, 2).reshape(2, 1), f(2, 4)]),
    Case("OneHot", [i(0, 2, 1), number(3), np.array([-1, 2], np.float32)]),
    Case("OneHot", [i(0, -1, 1), number(3), np.array([0, 1], np.float32)], {"axis": 0}),
    Case("TopK", [X, i(2)], {"axis": 1}, 2),
    Case("Conv", [IMAGE, f(3, 4, 3, 3), f(3)], {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    Case("Conv", [IMAGE, f(8, 1, 3, 3)], {"group": 4, "dilations": [2, 2]}),
    Case("Conv", [IMAGE, f(3, 4, 2, 2)], {"pads": [0, 0, 1, 1]}),
    Case("Conv", [f(2, 4, 9), f(3, 4, 3)], {"pads": [1, 1]}),
    Case("ConvTranspose", [IMAGE, f(4, 3, 3, 3), f(3)], {"strides": [2, 2], "pads": [1, 1, 1, 1],
                                                         "output_padding": [1, 1]}),
    Case("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    Case("AveragePool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    Case("AveragePool", [IMAGE], {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [1, 1, 1, 1]}),
    Case("LpPool", [IMAGE], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Case("GlobalAveragePool", [IMAGE]),
    Case("GlobalMaxPool", [IMAGE]),
    Case("BatchNormalization", [IMAGE, f(4), f(4), f(4), np.abs(f(4))]),
    Case("InstanceNormalization", [IMAGE, f(4), f(4)]),
    Case("LayerNormalization", [IMAGE, f(6), f(6)]),
    Case("LayerNormalization", [IMAGE, f(6, 6)], {"axis": 2}),
    Case("GroupNormalization", [IMAGE, f(4), f(4)], {"num_groups": 2}),
    Case("RMSNormalization", [IMAGE, f(6)]),
    Case("Attention", [f(2, 4, 3, 6), f(2, 4, 5, 6), f(2, 4, 5, 6), f(2, 1, 3, 5)]),
    Case("Attention", [f(2, 4, 3, 6), f(2, 4, 3, 6), f(2, 4, 3, 6)], {"is_causal": 1, "scale": 0.3}),
    Case("Attention", [f(2, 4, 3, 6), f(2, 2, 5, 6), f(2, 2, 5, 6)], {"softcap": 2.0}),
    Case("Attention", [f(2, 3, 8), f(2, 3, 8), f(2, 3, 8)], {"q_num_heads": 2, "kv_num_heads": 2}),
    Case("LpNormalization", [X], {"axis": 1}),
    Case("Resize", [IMAGE, f(0), np.array([1, 1, 2, 2], np.float32)],
         {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}),
    Case("Resize", [IMAGE, f(0), np.array([1, 1, 2, 1.5], np.float32)], {"mode": "linear"}),
    Case("Resize", [IMAGE, f(0), np.array([1, 1, 0.6, 0.6], np.float32)], {"mode": "linear"}),
    Case("Resize", [IMAGE, f(0), f(0), i(2, 4, 9, 7)], {"mode": "linear",
                                                        "coordinate_transformation_mode": "align_corners"}),
    Case("Resize", [IMAGE, f(0), f(0), i(2, 4, 9, 7)], {"mode": "cubic"}),
    Case("Resize", [IMAGE, f(0), np.array([2, 2], np.float32)], {"mode": "cubic", "axes": [2, 3]}),
]  # fmt: skip


def network(case: Case, known: set[int]) -> tuple[GraphNetwork, list[torch.Tensor]]:
    """A graph of the operator alone, these of its inputs constants."""
    tensors = {f"in{k}": torch.from_numpy(np.array(value)) for k, value in enumerate(case.inputs)}
    asked = [name for k, name in enumerate(tensors) if k not in known]
    if not asked:  # nothing but shapes
        asked, tensors["unused"] = ["unused"], torch.zeros(1)
    inputs = tuple(Input(name, "float32", tuple(tensors[name].shape)) for name in asked)
    outputs = tuple(f"out{k}" for k in range(case.outputs))
    names, attributes = [name for name in tensors if name != "unused"], dict(case.attributes)
    constants = {name: tensor for name, tensor in tensors.items() if name not in asked}
    if case.op == "ConstantOfShape":
        names.append("value")
        constants["value"] = torch.zeros(1)
    node = Node(case.op, tuple(names), outputs, attributes)
    graph = Graph(inputs, outputs, (node,), (), (), {})
    return GraphNetwork(graph, constants), [tensors[name] for name in asked]


def reference(case: Case) -> list[Array]:
    node = helper.make_node(
        case.op, [f"in{k}" for k in range(len(case.inputs))], [f"out{k}" for k in range(case.outputs)],
        **case.attributes,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(f"in{k}", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for k, x in enumerate(case.inputs)
        ],
        [helper.make_tensor_value_info(f"out{k}", TensorProto.UNDEFINED, None) for k in range(case.outputs)],
    )
    opset = 23 if case.op in NEWER else 20
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(model).run(None, {f"in{k}": x for k, x in enumerate(case.inputs)})
    return [np.asarray(value) for value in found]


def name_of(case: Case) -> str:
    return f"{case.op} {case.attributes or ''} {[list(x.shape) for x in case.inputs]}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_an_operator_is_what_the_reference_says(case: Case) -> None:
    """With data for all inputs but those that must be known, then with the first input alone being data."""
    expected = reference(case)
    host = set(OPERATORS[case.op].host)
    for known in (host, set(range(1, len(case.inputs))) | host):
        graph, inputs = network(case, known)
        found = graph(*inputs)
        for ours, theirs in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
            assert tuple(ours.shape) == np.shape(theirs)
            assert ours.is_floating_point() == (np.asarray(theirs).dtype.kind == "f")
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


SMOOTH = [
    case
    for case in CASES
    if case.outputs == 1 and case.inputs[0].dtype == np.float32 and case.inputs[0].size > 1
    and OPERATORS[case.op].host.isdisjoint({0})
    and case.op not in WITHOUT_SLOPE
]  # fmt: skip


@pytest.mark.parametrize("case", SMOOTH, ids=name_of)
def test_forward_mode_goes_through_an_operator_and_is_right_when_nested(case: Case) -> None:
    """D²f[u, u] by nested forward mode is the slope of Df[u], in float64."""
    graph, inputs = network(case, set(range(1, len(case.inputs))))
    x = inputs[0].double()
    u = torch.linspace(0.5, 1.5, x.numel(), dtype=torch.float64).reshape(x.shape)

    def first(x: torch.Tensor) -> torch.Tensor:
        slope: torch.Tensor = jvp(graph, (x,), (u,))[1]
        return slope

    bend = jvp(first, (x,), (u,))[1]
    step = 1e-6
    beside = (first(x + step * u) - first(x - step * u)) / (2 * step)
    assert torch.allclose(bend, beside, rtol=1e-4, atol=1e-4)
    alone = vmap(graph)(x[None].expand(2, *x.shape))[1]
    assert torch.allclose(alone, graph(x))
