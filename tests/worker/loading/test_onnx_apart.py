"""Graphs that mix the samples of a batch are refused, and no others for that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.hostile.graphs import node, saved
from worker.loading import LoadError, load_onnx
from worker.loading.onnx_apart import check_apart

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(4, 3)).astype(np.float32)
TABLE = RNG.normal(size=(20, 3)).astype(np.float32)
TENSORS: dict[str, Any] = {
    "first": np.array([0]), "second": np.array([1]), "every": np.array([0, 1]), "zero": np.array(0),
    "four": np.array([-1, 4]), "end": np.array([-(2**62)]), "back": np.array([-1]),
    "large": np.float32(1e4), "small": np.float32(1e-3),
    "head.weight": np.zeros((4, 3), np.float32), "fc.weight": WEIGHT, "turned": WEIGHT.T,
    "table": TABLE, "flags": TABLE[:2], "one": TABLE[:1],
}  # fmt: skip
MEAN = node("ReduceMean", ["x", "first"], ["m"], keepdims=1)
CENTRED = [MEAN, node("Sub", ["x", "m"], ["c"])]


def graph(nodes: Sequence[NodeProto], shape: Sequence[int | str] = ("batch", 4), kind: int = 1) -> bytes:
    used = {name for one in nodes for name in one.input}
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in TENSORS.items() if name in used]
    if kind == TensorProto.FLOAT:
        return saved(nodes, tensors, shape=shape)
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "n"])],
        tensors,
    )
    data: bytes = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()
    return data


MIXED = {
    "less the batch's mean": graph([MEAN, node("Sub", ["x", "m"])]),
    "norm by the batch's own statistics": graph(
        [*CENTRED, node("Mul", ["c", "c"], ["q"]), node("ReduceMean", ["q", "first"], ["v"]),
         node("Sqrt", ["v"], ["s"]), node("Div", ["c", "s"])]
    ),
    "softmax along axis 0": graph([node("Softmax", ["x"], axis=0)]),
    "over the largest of all": graph([node("ReduceMax", ["x", "every"], ["m"]), node("Div", ["x", "m"])]),
    "over the largest, a value a sample": graph(
        [node("ReduceMax", ["x", "every"], ["m"]), node("Div", ["x", "m"])], ("batch", 1)
    ),
    "sums of those before": graph([node("CumSum", ["x", "zero"])]),
    "in the other order": graph([node("Slice", ["x", "back", "end", "first", "back"])]),
    "sorted": graph([node("TopK", ["x", "second"], ["t", "i"], axis=0), node("Add", ["x", "t"])]),
    "folded anew": graph([node("Transpose", ["x"], ["t"]), node("Reshape", ["t", "four"])]),
    "products of all pairs": graph([node("Transpose", ["x"], ["t"]), node("MatMul", ["x", "t"])]),
    "attention to the others": graph(
        [node("Transpose", ["x"], ["t"]), node("MatMul", ["x", "t"], ["a"]), node("Softmax", ["a"], ["s"]),
         node("MatMul", ["s", "x"])]
    ),
    "over the number of samples": graph(
        [node("Shape", ["x"], ["n"]), node("Gather", ["n", "zero"], ["k"]), node("Cast", ["k"], ["f"], to=1),
         node("Div", ["x", "f"])]
    ),
    "before a head of zeros": graph([*CENTRED, node("MatMul", ["c", "head.weight"])]),
    "by a thousandth": graph([MEAN, node("Mul", ["m", "small"], ["k"]), node("Add", ["x", "k"])]),
    "token ids": graph(
        [node("Gather", ["table", "x"], ["e"]), node("ReduceMean", ["e", "second"], ["w"], keepdims=0),
         node("ReduceMean", ["w", "first"], ["m"]), node("Sub", ["w", "m"])], ("batch", 5), TensorProto.INT64
    ),
    "a token a sample": graph(
        [node("Gather", ["table", "x"], ["e"]), node("Softmax", ["e"], axis=0)], ("batch",), TensorProto.INT64
    ),
    "an embedding of two": graph(
        [node("Gather", ["flags", "x"], ["e"]), node("Softmax", ["e"], axis=0)], ("batch",), TensorProto.INT32
    ),
    "flags": graph(
        [node("Cast", ["x"], ["f"], to=1), node("Softmax", ["f"], axis=0)], ("batch", 3), TensorProto.BOOL
    ),
}  # fmt: skip
APART = {
    "by rounding alone": graph(
        [MEAN, node("Mul", ["m", "large"], ["k"]), node("Add", ["x", "k"], ["s"]), node("Sub", ["s", "k"])]
    ),
    "softmax of each": graph([node("Softmax", ["x"], axis=1)]),
    "less each one's own mean": graph(
        [node("ReduceMean", ["x", "second"], ["m"]), node("Sub", ["x", "m"], ["c"]),
         node("MatMul", ["c", "fc.weight"])]
    ),
    "turned weights": graph([node("Transpose", ["turned"], ["w"]), node("MatMul", ["x", "w"])]),
    "no number": graph([node("Neg", ["x"], ["n"]), node("Log", ["n"])]),
    "infinite": graph([node("Sub", ["x", "x"], ["z"]), node("Div", ["x", "z"])]),
    "the same for all": graph([node("Sub", ["x", "x"], ["z"]), node("MatMul", ["z", "fc.weight"])]),
    "choices": graph([node("ArgMax", ["x"], ["a"], axis=1), node("Cast", ["a"], to=1)]),
    "ids that no embedding has": graph(
        [node("Gather", ["one", "x"], ["e"]), node("Softmax", ["e"], axis=-1)], ("batch",), TensorProto.INT64
    ),
}  # fmt: skip


@pytest.mark.parametrize("data", MIXED.values(), ids=MIXED)
def test_a_graph_that_mixes_the_samples_of_a_batch_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(data)
    with pytest.raises(LoadError) as refused:
        load_onnx(tmp_path / "network.onnx", tmp_path / "graph")
    assert refused.value.code == "mixed_samples", refused.value.detail
    assert "its output 'y' differs" in refused.value.detail and "model.eval()" in refused.value.detail
    assert [error["pointer"] for error in refused.value.errors] == ["/outputs/y"]
    assert not (tmp_path / "graph").exists()


@pytest.mark.parametrize("data", APART.values(), ids=APART)
def test_a_graph_that_does_not_is_read(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(data)
    assert load_onnx(tmp_path / "network.onnx", tmp_path / "graph").outputs[0]["shape"][0] is None


def test_it_is_told_by_how_much(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(MIXED["over the number of samples"])
    with pytest.raises(LoadError, match=r"differs by 0\.1\d+ at values of up to 0\.\d+ with other samples"):
        load_onnx(tmp_path / "network.onnx", tmp_path / "graph")


def test_a_graph_that_takes_too_long_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(APART["softmax of each"])
    load_onnx(tmp_path / "network.onnx", tmp_path / "graph")
    canonical = (tmp_path / "graph").read_bytes()
    assert canonical.count(b'"axis\\":1') == 1
    (tmp_path / "graph").write_bytes(canonical.replace(b'"axis\\":1', b'"axis\\":0'))
    check_apart(tmp_path / "graph", 8, seconds=0)
    with pytest.raises(LoadError):
        check_apart(tmp_path / "graph", 8)
