"""Graphs: a stranger's ONNX file becomes a canonical graph, or is refused with what is wrong with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.worker.loading.files import allocating_at_most
from worker.influence.networks.graph import GraphNetwork
from worker.loading import GraphInfo, LoadError, load_onnx

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
Made = dict[str, Any]
Load = Callable[[ModelProto | bytes], GraphInfo]
Refuse = Callable[..., LoadError]


def node(op: str, inputs: Sequence[str], output: str = "y", **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs, [output], **attributes)


def model(
    nodes: Sequence[NodeProto],
    tensors: dict[str, np.ndarray[Any, Any]] | None = None,
    *,
    shape: Sequence[int | str] = ("batch", 4),
    opset: int = 20,
    **more: Any,
) -> ModelProto:
    """A model of these nodes, from the input "x" to the output "y"."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "n"])],
        [numpy_helper.from_array(value, name) for name, value in (tensors or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **more)


def linear() -> ModelProto:
    return model(
        [node("Gemm", ["x", "fc.weight", "fc.bias"], transB=1)],
        {"fc.weight": WEIGHT, "fc.bias": WEIGHT[:, 0]},
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "graph.safetensors"


@pytest.fixture
def load(tmp_path: Path, out: Path) -> Load:
    def load_model(made: ModelProto | bytes) -> GraphInfo:
        path = tmp_path / "network.onnx"
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
        return load_onnx(path, out)

    return load_model


@pytest.fixture
def refuse(load: Load, out: Path) -> Refuse:
    """Loads a graph, which must be refused with nothing left behind."""

    def refuse_model(made: ModelProto | bytes, code: str) -> LoadError:
        with pytest.raises(LoadError) as refused:
            load(made)
        assert refused.value.code == code, refused.value.detail
        assert not out.exists()
        return refused.value

    return refuse_model


def test_a_graph_is_told_and_written(load: Load, out: Path) -> None:
    info = load(linear())
    assert info.as_dict() == {
        "opset": 20,
        "num_nodes": 1,
        "num_parameters": 15,
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 4]}],
        "outputs": [{"name": "y", "shape": [None, 3]}],
        "operators": ["Gemm"],
        "parameters": ["fc.weight", "fc.bias"],
        "buffers": [],
    }
    x = torch.randn(5, 4)
    theirs = x @ torch.from_numpy(WEIGHT).T + torch.from_numpy(WEIGHT[:, 0])
    assert torch.allclose(GraphNetwork.read(out)(x), theirs)


def test_running_statistics_are_buffers_and_their_counter_may_be_missing(load: Load) -> None:
    tensors = {
        f"bn.{name}": np.ones(4, np.float32) for name in ("weight", "bias", "running_mean", "running_var")
    }
    info = load(model([node("BatchNormalization", ["x", *tensors])], tensors))
    assert info.parameters == ["bn.weight", "bn.bias"]
    assert info.buffers == ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]


def test_the_recorders_word_counts_more_than_names(load: Load, out: Path) -> None:
    made = model(
        [node("Gemm", ["x", "head.weight", "scale"], transB=1)],
        {"head.weight": WEIGHT, "scale": WEIGHT[:, 0]},
    )
    told = {
        "parameters": ["embedding.weight", "never.used"],
        "buffers": ["scale"],
        "tied": {"head.weight": "embedding.weight"},
        "unused": {"never.used": {"dtype": "float32", "shape": [2]}},
    }
    helper.set_model_props(made, {"diffin": json.dumps(told)})
    info = load(made)
    assert (info.parameters, info.buffers) == (["embedding.weight", "never.used"], ["scale"])
    network = GraphNetwork.read(out)
    assert dict(network.named_parameters()).keys() == {"embedding.weight", "never.used"}
    assert network.state_dict()["head.weight"] is not None
    assert torch.equal(network.get_parameter("head.weight"), torch.from_numpy(WEIGHT))


@pytest.mark.parametrize(
    "told", ["{", "[]", '{"parameters": 3}', '{"parameters": ["nowhere"]}', '{"tied": {"a": "b"}}']
)
def test_a_word_that_does_not_fit_is_refused(refuse: Refuse, told: str) -> None:
    made = linear()
    helper.set_model_props(made, {"diffin": told})
    refuse(made, "corrupt_file")


def test_all_unknown_operators_are_named_at_once(refuse: Refuse) -> None:
    made = model([node("NonZero", ["x"], "a"), node("Unique", ["a"], "b"), node("NonZero", ["b"])])
    refused = refuse(made, "unsupported_operator")
    assert "NonZero, Unique" in refused.detail
    assert [error["pointer"] for error in refused.errors] == ["/NonZero", "/Unique"]


def test_another_domains_operators_are_named_with_it(refuse: Refuse) -> None:
    made = model([node("Gelu", ["x"], domain="com.microsoft")])
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert "com.microsoft::Gelu" in refuse(made, "unsupported_operator").detail


def test_subgraphs_are_refused_with_the_operator_that_has_them(refuse: Refuse) -> None:
    branch = helper.make_graph(
        [node("Relu", ["x"], "z")], "branch", [], [helper.make_tensor_value_info("z", 1, ["n"])]
    )
    chosen = node("If", ["c"], then_branch=branch, else_branch=branch)
    refused = refuse(model([chosen], {"c": np.array(True)}), "unsupported_operator")
    assert "If" in refused.detail


def test_data_in_other_files_are_refused(refuse: Refuse) -> None:
    made = linear()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    assert "external_data=False" in refuse(made, "external_data").detail


def test_data_in_other_files_are_found_in_the_attributes_of_nodes_too(refuse: Refuse) -> None:
    value = TensorProto(data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="/dev/zero")
    made = model([node("Constant", [], "c", value=value), node("Add", ["x", "c"])])
    refuse(made, "external_data")


@pytest.mark.parametrize(("opset", "shown"), [(17, "opset 17"), (99, "opset 99")])
def test_an_opset_out_of_range_is_refused(refuse: Refuse, opset: int, shown: str) -> None:
    assert shown in refuse(model([node("Relu", ["x"])], opset=opset), "unsupported_opset").detail


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\x80\x02}q\x00.", "unsafe_file"),
        (b"PK\x03\x04" + bytes(100), "unsafe_file"),
        (b"\xff" * 100, "corrupt_file"),
        (ModelProto().SerializeToString() or b"\x08\x0a", "corrupt_file"),
    ],
)
def test_what_is_no_onnx_file_is_refused(refuse: Refuse, data: bytes, code: str) -> None:
    refuse(data, code)


def test_every_truncation_is_refused(refuse: Refuse, load: Load) -> None:
    whole = linear().SerializeToString()
    for length in range(1, len(whole), 7):
        with pytest.raises(LoadError):
            load(whole[:length])


def test_a_tensor_that_is_not_of_its_shapes_size_is_refused(refuse: Refuse) -> None:
    made = linear()
    made.graph.initializer[0].dims[0] = 2**40
    refuse(made, "invalid_graph")
    large = model([node("MatMul", ["x", "w"])], {"w": np.ones((4, 1 << 16), np.float32)})
    large.graph.initializer[0].dims[1] = 2**40
    refuse(large, "corrupt_file")


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Constant", [], "n", value_ints=[1 << 40]), node("ConstantOfShape", ["n"], "z"),
         node("ReduceSum", ["z"], "s"), node("Add", ["x", "s"])],
        [node("Constant", [], "n", value_ints=[1 << 20] * 2), node("Constant", [], "o", value_floats=[1.0]),
         node("Expand", ["o", "n"], "e"), node("Exp", ["e"], "f"), node("ReduceSum", ["f"], "s"),
         node("Add", ["x", "s"])],
        [node("Constant", [], "n", value_ints=[1, 1 << 40]), node("Tile", ["x", "n"])],
        [node("Constant", [], "a", value_int=0), node("Constant", [], "n", value_int=400_000_000),
         node("Constant", [], "d", value_int=1), node("Range", ["a", "n", "d"], "r"),
         node("Cast", ["r"], "f", to=1), node("ReduceSum", ["f"], "s"), node("Add", ["x", "s"])],
    ],
    ids=["ConstantOfShape", "Expand", "Tile", "Range"],
)  # fmt: skip
def test_what_would_grow_out_of_bounds_is_refused_without_being_allocated(
    refuse: Refuse, nodes: list[NodeProto]
) -> None:
    with allocating_at_most(50 << 20):
        assert refuse(model(nodes), "sample_too_large")


def test_too_many_nodes_are_refused(refuse: Refuse) -> None:
    names = ["x", *(f"v{i}" for i in range(20_000)), "y"]
    nodes = [node("Relu", [a], b) for a, b in pairwise(names)]
    refuse(model(nodes), "graph_too_large")


@pytest.mark.parametrize("good", [True, False])
def test_a_graph_near_the_bound_is_tried_out_in_seconds(load: Load, refuse: Refuse, good: bool) -> None:
    """The meta device took a millisecond a node: 40 s in all, on two cores that were busy."""
    names = ["x", *(f"v{i}" for i in range(9_900)), "y" if good else "z"]
    made = model(
        [
            *(node("Relu" if i % 3 else "Sigmoid", [a], b) for i, (a, b) in enumerate(pairwise(names))),
            *([] if good else [node("MatMul", ["z", "w"])]),
        ],
        {} if good else {"w": WEIGHT},
    )
    started = time.process_time()
    if good:
        assert load(made).num_nodes == 9_901
    else:
        assert "MatMul" in refuse(made, "unsupported_graph").detail
    assert time.process_time() - started < 6


def test_functions_that_multiply_are_counted_before_they_are_put_in_place(refuse: Refuse) -> None:
    """Each of 20 calls the one before it ten times."""
    made = model([helper.make_node("f19", ["x"], ["y"], domain="own")])
    made.opset_import.append(helper.make_opsetid("own", 1))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    for level in range(20):
        name, domain = ("Relu", "") if level == 0 else (f"f{level - 1}", "own")
        chain = ["a", *(f"t{i}" for i in range(9)), "b"]
        body = [helper.make_node(name, [i], [o], domain=domain) for i, o in pairwise(chain)]
        made.functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], body, opsets))
    refuse(made, "graph_too_large")


@pytest.mark.parametrize("hidden", ["overload", "If"])
def test_functions_that_multiply_out_of_sight_are_refused(refuse: Refuse, hidden: str) -> None:
    """Each calls the one before it twice, as another overload or in a branch."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    overload = "large" if hidden == "overload" else ""
    made = model([helper.make_node("f27", ["x"], ["y"], domain="own", overload=overload)])
    made.opset_import.append(opsets[1])
    for level in range(28):
        name, domain = ("Relu", "") if level == 0 else (f"f{level - 1}", "own")
        calls = [helper.make_node(name, [i], [o], domain=domain, overload=overload if domain else "")
                 for i, o in pairwise("acb")]  # fmt: skip
        if hidden == "If" and level:
            branch = helper.make_graph(calls, "g", [], [helper.make_tensor_value_info("b", 1, ["n"])])
            calls = [node("Constant", [], "t", value=numpy_helper.from_array(np.array(True))),
                     node("If", ["t"], "b", then_branch=branch, else_branch=branch)]  # fmt: skip
        add = helper.make_function("own", f"f{level}", ["a"], ["b"], calls, opsets, overload=overload)
        made.functions.append(add)
    if overload:
        relu = [node("Relu", ["a"], "b")]
        made.functions.extend(
            helper.make_function("own", f"f{i}", ["a"], ["b"], relu, opsets, overload="small")
            for i in range(28)
        )
    refuse(made, "graph_too_large" if overload else "unsupported_operator")


def test_functions_are_put_in_their_places(load: Load, out: Path) -> None:
    made = model([helper.make_node("twice", ["x"], ["y"], domain="own")])
    made.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    made.functions.append(
        helper.make_function("own", "twice", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    )
    assert load(made).operators == ["Add"]
    assert torch.equal(GraphNetwork.read(out)(torch.ones(2, 4)), torch.full((2, 4), 2.0))


def test_a_cycle_is_refused(refuse: Refuse) -> None:
    nodes = [node("Add", ["x", "b"], "a"), node("Relu", ["a"], "b"), node("Relu", ["b"])]
    refuse(model(nodes), "invalid_graph")


def test_a_batch_that_was_baked_in_is_told_of(refuse: Refuse) -> None:
    shape = node("Constant", [], "s", value_ints=[1, 2, 2])
    refused = refuse(model([shape, node("Reshape", ["x", "s"])], shape=(1, 4)), "fixed_batch")
    assert "batches of 1, and no others" in refused.detail
    assert "dynamic_shapes" in refused.detail


def test_a_batch_that_is_merged_into_another_axis_is_told_of(refuse: Refuse) -> None:
    shape = node("Constant", [], "s", value_ints=[1, -1])
    assert "not the batch" in refuse(model([shape, node("Reshape", ["x", "s"])]), "fixed_batch").detail


def test_an_operator_that_never_fits_is_named(refuse: Refuse) -> None:
    made = model([node("MatMul", ["x", "w"])], {"w": WEIGHT})
    assert "MatMul, which makes 'y'" in refuse(made, "unsupported_graph").detail


def test_an_attribute_that_is_not_supported_is_named(refuse: Refuse) -> None:
    made = model([node("EyeLike", ["x"], dtype=TensorProto.FLOAT)])
    assert "EyeLike with dtype" in refuse(made, "unsupported_attribute").detail


@pytest.mark.parametrize(
    "divides",
    [
        node("SpaceToDepth", ["x"], "a", blocksize=0),
        node("LpPool", ["x"], "a", kernel_shape=[2, 2], p=0),
        node("Split", ["x"], "a", num_outputs=0),
        node("Conv", ["x", "w"], "a", strides=[0, 0]),
    ],
    ids=lambda one: str(one.op_type),
)
def test_a_division_by_zero_is_the_graphs(refuse: Refuse, divides: NodeProto) -> None:
    kernel = {"w": np.ones((4, 3, 2, 2), dtype=np.float32)}
    made = model([divides, node("Flatten", ["a"])], kernel, shape=("batch", 3, 8, 8))
    assert f"{divides.op_type}, which makes 'a'" in refuse(made, "unsupported_graph").detail


def test_half_precision_becomes_float32(load: Load, out: Path) -> None:
    made = model([node("Cast", ["x"], "h", to=TensorProto.FLOAT16), node("MatMul", ["h", "w"], "m"),
                  node("Cast", ["m"], to=TensorProto.FLOAT)], {"w": WEIGHT.T.astype(np.float16)})  # fmt: skip
    load(made)
    network = GraphNetwork.read(out)
    assert network.get_parameter("w").dtype == torch.float32
    assert torch.equal(network(torch.ones(2, 4)), torch.ones(2, 4) @ torch.from_numpy(WEIGHT.T.copy()))


def test_a_name_that_no_module_can_have_is_refused(refuse: Refuse) -> None:
    made = model([node("MatMul", ["x", "forward"], "a"), node("MatMul", ["a", "forward.w"])],
                 {name: np.eye(4, dtype=np.float32) for name in ("forward", "forward.w")})  # fmt: skip
    assert "'forward'" in refuse(made, "unsupported_graph").detail
