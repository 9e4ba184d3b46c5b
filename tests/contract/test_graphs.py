"""Networks as graphs over HTTP: what is accepted, and what is refused in words."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save

from tests import walk
from tests.services import Service

RUN = {"name": "a graph", "task": {"type": "classification", "loss": "cross_entropy"}}
TRACIN = {"name": "tracin"}


@pytest.fixture
def client(embedded_service: Service) -> Iterator[httpx.Client]:
    with embedded_service.client() as client:
        yield client
        assert client.get("/readyz").status_code == 200, "the service still answers"


def tensors(features: int = 64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"fc.weight": (10, features), "fc.bias": (10,)}
    return {name: rng.normal(size=shape).astype(np.float32) * 0.1 for name, shape in shapes.items()}


def graph(operator: str = "Relu", outputs: tuple[Any, ...] = ("batch", 10), **attributes: Any) -> bytes:
    """A linear layer with something before it."""
    nodes = [
        helper.make_node(operator, ["x"], ["h"], **attributes),
        helper.make_node("Gemm", ["h", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    if operator == "Mystery":
        nodes[0].domain = "of.ours"
    if len(outputs) == 1:
        nodes.append(helper.make_node("ReduceSum", ["y", "axes"], ["z"], keepdims=0))
    made = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y" if len(outputs) > 1 else "z", TensorProto.FLOAT, outputs)],
        [
            *(numpy_helper.from_array(value, name) for name, value in tensors().items()),
            *([numpy_helper.from_array(np.array([1]), "axes")] if len(outputs) == 1 else []),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("of.ours", 1)]
    content: bytes = helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()
    return content


def post(client: httpx.Client, content: bytes, name: str = "network.onnx", **run: Any) -> httpx.Response:
    files: dict[str, Any] = {
        "trajectory": (None, json.dumps(RUN | run)),
        "architecture_file": (name, content),
    }
    return client.post("/v1/trajectories", files=files)


def send(client: httpx.Client, trajectory_id: str, state: dict[str, Any], step: int = 10) -> httpx.Response:
    content = save({name: torch.from_numpy(value) for name, value in state.items()})
    return client.post(
        f"/v1/trajectories/{trajectory_id}/checkpoints",
        files={"file": (f"{step}.safetensors", content)},
        data={"step": str(step), "learning_rate": "0.1"},
    )


def settled(client: httpx.Client, trajectory_id: str) -> dict[str, Any]:
    """The trajectory once none of its files is validating."""
    path = f"/v1/trajectories/{trajectory_id}"
    while "retry-after" in (answer := client.get(path)).headers:
        pass
    body: dict[str, Any] = walk.ok(answer, 200)
    return body


@pytest.mark.parametrize("shape", ["embedded_service", "production_service"])
def test_a_graph_its_checkpoints_and_a_job(request: pytest.FixtureRequest, shape: str) -> None:
    service: Service = request.getfixturevalue(shape)
    with service.client() as client:
        a_graph_its_checkpoints_and_a_job(client)


def a_graph_its_checkpoints_and_a_job(client: httpx.Client) -> None:
    made = walk.ok(post(client, graph()), 201)
    for step in (10, 20):  # at once: they wait for the graph
        walk.ok(send(client, made["id"], tensors(), step), 202)
    body = settled(client, made["id"])
    assert [one["status"] for one in [*body["files"], *body["checkpoints"]]] == ["ready"] * 3
    config = body["architecture"]["config"]
    assert (config["operators"], config["opset"], config["num_parameters"]) == (["Gemm", "Relu"], 20, 650)
    assert config["inputs"] == [{"name": "x", "shape": [None, 64], "dtype": "float32"}]
    assert config["outputs"][0]["shape"] == [None, 10]
    x, y = walk.digits(60)
    data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    job = walk.ok(walk.post_job(client, made["id"], data, data, method=TRACIN), 202)
    assert walk.finished(client, job["id"])["status"] == "succeeded"
    assert len(walk.scores(client, job["id"])) == 60
    other = walk.dataset(client, walk.npz(inputs=x[:, :50], targets=y))["id"]
    answer = walk.ok(walk.post_job(client, made["id"], other, other, method=TRACIN), 422)
    assert answer["code"] == "shape_mismatch" and "64" in answer["detail"]
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.delete(f"/v1/trajectories/{made['id']}").status_code == 204


def test_a_graph_without_checkpoints_is_trained_from_its_own_values(client: httpx.Client) -> None:
    made = walk.ok(post(client, graph()), 201)
    settled(client, made["id"])
    x, y = walk.digits(120)
    data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    schedule = {"name": "constant", "learning_rate": 0.5}
    asked = {
        "type": "train",
        "trajectory_id": made["id"],
        "train_dataset_id": data,
        "recipe": {"schedule": schedule, "batch_size": 30, "epochs": 5},
        "checkpoints": {"count": 2},
    }
    job = walk.finished(client, walk.ok(client.post("/v1/jobs", json=asked), 202)["id"])
    assert job["status"] == "succeeded", job["error"]
    assert job["result"]["train"]["loss"] < 0.5 * job["result"]["curve"][0]["loss"]
    run = walk.ok(client.get(f"/v1/trajectories/{job['result']['trajectory_id']}"), 200)
    assert run["architecture"] == job["architecture"]
    assert [(one["role"], one["status"]) for one in run["files"]] == [("architecture", "ready")]
    start = save({name: torch.from_numpy(value) for name, value in tensors().items()})
    assert run["checkpoints"][0]["sha256"] == hashlib.sha256(start).hexdigest()
    # the run stands by itself: what it was told by may go
    walk.ok(client.delete(f"/v1/jobs/{job['id']}"), 204)
    walk.ok(client.delete(f"/v1/trajectories/{made['id']}"), 204)
    method = {"name": "diff_in", "resolution": "steps"}
    scored = walk.ok(walk.post_job(client, run["id"], data, data, method=method), 202)
    result = walk.finished(client, scored["id"])["result"]
    assert [one.get("replay_drift", 0) for one in result["checkpoints"]] == [0] * 3


def pickled() -> bytes:
    return pickle.dumps(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (lambda: graph("Mystery"), None, "Mystery"),
        (lambda: b"this is no protobuf at all", None, "ONNX"),
        (pickled, "unsafe_file", "torch.onnx.export"),
        (lambda: graph(outputs=("batch",)), "shape_mismatch", "num_classes"),
        (lambda: graph()[:-200], None, "ONNX"),
        (lambda: graph("Softmax", axis=0), "mixed_samples", "other samples beside it"),
    ],
    ids=["operator", "noise", "pickle", "no classes", "truncated", "mixed"],
)
def test_a_graph_that_is_refused_says_why(
    client: httpx.Client, content: Any, code: str | None, words: str
) -> None:
    made = walk.ok(post(client, content()), 201)
    sent = send(client, made["id"], tensors())
    body = settled(client, made["id"])
    [file] = body["files"]
    assert (body["status"], body["error"]["code"]) == ("invalid", "invalid_architecture")
    assert words in body["error"]["detail"]
    assert file["status"] == "invalid"
    assert words in file["error"]["detail"]
    assert file["error"]["code"] == (code or file["error"]["code"])
    if sent.status_code == 202:  # it came before the verdict
        [checkpoint] = body["checkpoints"]
        assert (checkpoint["status"], checkpoint["error"]["code"]) == ("invalid", "invalid_architecture")
        assert words in checkpoint["error"]["detail"]
    else:
        assert walk.ok(sent, 422)["code"] == "invalid_architecture"
    x, y = walk.digits(20)
    data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    refused = walk.ok(walk.post_job(client, made["id"], data, data, method=TRACIN), 422)
    assert refused["code"] == "invalid_architecture" and words in refused["detail"]


def test_a_pickle_by_its_name_is_refused_at_once(client: httpx.Client) -> None:
    assert walk.ok(post(client, pickled(), "model.pt"), 422)["code"] == "unsafe_file"


@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_a_checkpoint_is_held_against_the_graph(client: httpx.Client, change: str) -> None:
    made = walk.ok(post(client, graph()), 201)
    state = tensors() if change == "missing" else tensors(63)
    if change == "missing":
        del state["fc.bias"]
    walk.ok(send(client, made["id"], state), 202)
    [checkpoint] = settled(client, made["id"])["checkpoints"]
    assert (checkpoint["status"], checkpoint["error"]["code"]) == ("invalid", "invalid_checkpoint")
    assert ("fc.bias" if change == "missing" else "fc.weight") in checkpoint["error"]["detail"]
