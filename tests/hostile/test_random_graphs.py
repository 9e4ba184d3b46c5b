"""Graphs of random operators: each is read, or refused with the reason; nothing else comes of any."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, defs, numpy_helper

from tests.hostile.graphs import node, saved
from worker import reading
from worker.graphs import described
from worker.influence.networks.graph import OPERATORS
from worker.loading import GraphInfo

OPSET = 20
INTEGERS = st.sampled_from([0, 1, 2, -1, -2, 3, 4, 5, -5, 1000, 2**31, 2**62, -(2**63)])
FLOATS = st.sampled_from([0.0, 1.0, -1.0, 1e38, float("nan"), 1e-5])
WORDS = st.sampled_from(
    ["", "NOTSET", "SAME_UPPER", "VALID", "nearest", "linear", "cubic", "constant", "edge", "reflect", "bi,bi->b",
     "...->...", "tanh", "none", "half_pixel", "asymmetric", "sum", "add", "floor"]
)  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "INT": INTEGERS, "INTS": st.lists(INTEGERS, min_size=1, max_size=4), "FLOAT": FLOATS,
    "FLOATS": st.lists(FLOATS, min_size=1, max_size=4), "STRING": WORDS,
}  # fmt: skip
SHAPES = st.sampled_from([(), (1,), (2,), (4,), (4, 4), (3, 4), (1, 1, 3, 3), (2, 4, 4), (0,)])
INPUTS = st.sampled_from([("b", 4), ("b", 1, 8, 8), ("b",), ("b", "t"), ("b", 4, "t")])
NAMES = sorted(name for name in OPERATORS if defs.has(name, max_inclusive_version=OPSET))


@st.composite
def constants(draw: Any, number: int) -> TensorProto:
    kind = draw(st.sampled_from([np.float32, np.int64, np.int64, np.bool_, np.float64, np.uint8]))
    shape = draw(SHAPES)
    few = st.sampled_from([0, 1, 2, 3, 4]) if kind is not np.int64 else INTEGERS
    values = draw(st.lists(few, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return numpy_helper.from_array(np.array(values).reshape(shape).astype(kind), f"c{number}")


@st.composite
def graphs(draw: Any) -> bytes:
    tensors = [draw(constants(i)) for i in range(draw(st.integers(1, 4)))]
    names, nodes = ["x", *(tensor.name for tensor in tensors)], []
    for number in range(draw(st.integers(1, 4))):
        schema = defs.get_schema(draw(st.sampled_from(NAMES)), OPSET)
        least, most = schema.min_input, max(schema.min_input, min(schema.max_input, 5))
        given = draw(st.lists(st.sampled_from([*names, "x"]), min_size=least, max_size=most))
        if len(given) > 1 and draw(st.integers(0, 9)) == 0:
            given[draw(st.integers(0, len(given) - 1))] = ""
        attributes = {
            name: draw(VALUES[kind])
            for name, one in schema.attributes.items()
            if (kind := str(one.type).rpartition(".")[2]) in VALUES
            and (one.required or draw(st.integers(0, 2)) == 0)
        }
        outputs = [f"t{number}", *(f"t{number}_{i}" for i in range(draw(st.integers(0, 2))))][
            : schema.max_output
        ]
        nodes.append(node(schema.name, given, outputs, **attributes))
        names += outputs
    output = draw(st.sampled_from([names[-1], *names]))
    return saved(nodes, tensors, outputs=[output], shape=draw(INPUTS), opset=OPSET)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of odd indices
@pytest.mark.parametrize("count", [30, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_random_graph_is_read_or_refused(count: int, tmp_path: Path) -> None:
    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(graphs())
    def every(data: bytes) -> None:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        (folder / "graph").write_bytes(data)
        found = reading.CALLS["graph"]({"path": str(folder / "graph"), "out": str(folder / "out")})
        if "refused" in found:
            assert found["refused"]["detail"]
        else:
            described(folder / "out", GraphInfo(**found))

    every()
