"""Trajectories whose network comes as a graph: sent as multipart, checked by a worker, waited for."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from app.store import trajectories
from app.store.tables import Blob, Trajectory, TrajectoryFile
from tests.api.front_end import RUN, Service, arrays, pages, pointers, problem, request_of

PATH = "/v1/trajectories"
GRAPH_RUN = {name: value for name, value in RUN.items() if name != "architecture"}
SENT = ("network.onnx", b"a graph")
FEATURES: dict[str, Any] = {
    "inputs": [{"name": "x", "shape": [None, 4], "dtype": "float32"}],
    "outputs": [{"name": "y", "shape": [None, 3], "dtype": "float32"}],
    "operators": ["Gemm", "Relu"],
    "opset": 20,
    "num_parameters": 67,
    "vocab_size": None,
    "structure": "0" * 64,
}


def post(
    service: Service,
    run: Any = None,
    graph: tuple[str, bytes] | None = ("network.onnx", b"a graph"),
    **more: Any,
) -> httpx.Response:
    text = run if isinstance(run, str) else json.dumps(GRAPH_RUN if run is None else run)
    files: dict[str, Any] = {"trajectory": (None, text)} | more.pop("files", {})
    files |= {"architecture_file": graph} if graph else {}
    return service.http.post(PATH, files=files, **more)


def posted(service: Service, **changes: Any) -> dict[str, Any]:
    answer = post(service, GRAPH_RUN | changes)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def accept(service: Service, trajectory_id: str, config: dict[str, Any] = FEATURES) -> None:
    """Makes the graph ready, as a worker does."""
    with service.database.transaction() as session, service.blobs.stage() as staged:
        staged.write_bytes(f"canonical graph of {trajectory_id}".encode())
        file = trajectories.file(session, trajectory_id, "architecture")
        assert file is not None
        trajectories.lock_owner(session, file.id)
        trajectories.network_known(session, trajectory_id, config)
        trajectories.ready(session, service.blobs, file, {}, staged)


def refuse(service: Service, trajectory_id: str, detail: str) -> None:
    with service.database.transaction() as session:
        file = trajectories.file(session, trajectory_id, "architecture")
        assert file is not None
        trajectories.lock_owner(session, file.id)
        trajectories.invalid(session, service.blobs, file, {"code": "unknown_operator", "detail": detail})


def ready(service: Service, config: dict[str, Any] = FEATURES, **changes: Any) -> str:
    """The id of a run whose graph and whose checkpoint are ready."""
    trajectory_id: str = posted(service, **changes)["id"]
    accept(service, trajectory_id, config)
    service.accept(service.checkpoint(trajectory_id, 10)["id"])
    return trajectory_id


def dataset(service: Service, inputs: Any = None, targets: Any = None) -> str:
    dataset_id: str = service.upload(inputs, targets)["id"]
    service.validate(dataset_id, inputs, targets)
    return dataset_id


def ask(service: Service, trajectory_id: str, inputs: Any = None, targets: Any = None) -> httpx.Response:
    data = dataset(service, inputs, targets)
    named = {"trajectory_id": trajectory_id, "train_dataset_id": data, "query_dataset_id": data}
    return service.http.post("/v1/jobs", json=request_of(named))


def test_a_graph_comes_with_its_run(service: Service) -> None:
    answer = post(service)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"{PATH}/{body['id']}"
    assert answer.headers["retry-after"] == "1"
    assert body["architecture"] == {"name": "onnx", "config": {}}
    [file] = body["files"]
    assert (file["role"], file["status"], file["filename"]) == ("architecture", "validating", "network.onnx")
    assert (file["bytes"], file["error"]) == (7, None)
    polled = service.http.get(f"{PATH}/{body['id']}")
    assert polled.json() == body
    assert polled.headers["retry-after"] == "1"
    assert service.staged() == []


def test_a_plain_run_has_no_files(service: Service) -> None:
    assert service.trajectory()["files"] == []


def test_what_was_read_of_the_graph_is_shown(service: Service) -> None:
    trajectory_id = posted(service)["id"]
    accept(service, trajectory_id)
    body = service.http.get(f"{PATH}/{trajectory_id}")
    assert body.json()["architecture"] == {"name": "onnx", "config": FEATURES}
    assert [one["status"] for one in body.json()["files"]] == ["ready"]
    assert "retry-after" not in body.headers


def test_the_name_may_be_said(service: Service) -> None:
    assert post(service, GRAPH_RUN | {"architecture": {"name": "onnx"}}).status_code == 201


@pytest.mark.parametrize(
    ("run", "graph", "pointer"),
    [
        (GRAPH_RUN, None, "/trajectory/architecture"),
        (RUN, ("network.onnx", b"x"), "/trajectory/architecture"),
        ({"architecture": {"name": "onnx"}} | GRAPH_RUN, None, "/trajectory/architecture"),
        ({"name": 5} | GRAPH_RUN | {"name": 5}, ("network.onnx", b"x"), "/trajectory/name"),
        (GRAPH_RUN | {"architecture": {"name": "onnx", "config": {"a": 1}}}, ("n.onnx", b"x"),
         "/trajectory/architecture/config"),
        ([], ("network.onnx", b"x"), "/trajectory"),
    ],
)  # fmt: skip
def test_a_run_at_fault_is_pointed_at(service: Service, run: Any, graph: Any, pointer: str) -> None:
    assert pointers(problem(post(service, run, graph), 422, "validation_error")) == [pointer]
    assert pages(service.http, PATH) == []


@pytest.mark.parametrize("text", ["{", '{"name": NaN', "[" * 100_000])
def test_a_part_that_is_no_json_is_refused(service: Service, text: str) -> None:
    assert pointers(problem(post(service, text), 400, "invalid_json")) == ["/trajectory"]


def test_the_run_is_required_and_nothing_else_is_taken(service: Service) -> None:
    files: dict[str, Any] = {"architecture_file": ("n.onnx", b"x")}
    assert pointers(problem(service.http.post(PATH, files=files), 422, "validation_error")) == ["/trajectory"]
    answer = post(service, data={"seed": "1"})
    assert pointers(problem(answer, 422, "validation_error")) == ["/seed"]
    answer = post(service, files={"weights": ("w.onnx", b"x")})
    assert pointers(problem(answer, 422, "validation_error")) == ["/weights"]


@pytest.mark.parametrize("filename", ["model.pt2", "model.pt", "model.pkl"])
def test_code_is_refused_with_the_way_out(service: Service, filename: str) -> None:
    body = problem(post(service, graph=(filename, b"\x80\x02.")), 422, "unsafe_file")
    assert pointers(body) == ["/architecture_file"]
    assert "torch.onnx.export" in body["detail"]


def test_an_empty_graph_is_refused(service: Service) -> None:
    assert pointers(problem(post(service, graph=("n.onnx", b"")), 422, "empty_file")) == [
        "/architecture_file"
    ]


def test_as_json_alone_the_graph_is_asked_for(service: Service) -> None:
    answer = service.http.post(PATH, json=RUN | {"architecture": {"name": "onnx"}})
    body = problem(answer, 422, "validation_error")
    assert pointers(body) == ["/architecture"] and "multipart" in body["detail"]


def test_the_same_key_makes_one_run(service: Service) -> None:
    key = {"Idempotency-Key": "one-graph"}
    first, again = post(service, headers=key), post(service, headers=key)
    assert first.json()["id"] == again.json()["id"]
    other = post(service, graph=("network.onnx", b"another"), headers=key)
    problem(other, 422, "idempotency_key_reused")


def test_a_run_takes_its_graph_along(service: Service) -> None:
    body = post(service, graph=("network.onnx", b"only here")).json()
    assert service.http.delete(f"{PATH}/{body['id']}").status_code == 204
    with service.database.snapshot() as session:
        assert session.get(Trajectory, body["id"]) is None
        assert session.query(TrajectoryFile).filter_by(trajectory_id=body["id"]).count() == 0
        assert session.get(Blob, body["files"][0]["sha256"]) is None


def test_a_run_has_the_status_of_its_network(service: Service) -> None:
    """As a data set has: a client that looks at the run alone learns that its graph was refused, and why."""
    sound, broken = posted(service), posted(service)
    assert (sound["status"], sound["error"]) == ("validating", None)
    accept(service, sound["id"])
    refuse(service, broken["id"], "The graph has the unknown operator Mystery.")
    told = {one["id"]: one for one in service.http.get(PATH).json()["data"]}
    for run in (sound["id"], broken["id"]):
        body = service.http.get(f"{PATH}/{run}").json()
        assert (body["status"], body["error"]) == (told[run]["status"], told[run]["error"])
    assert (told[sound["id"]]["status"], told[sound["id"]]["error"]) == ("ready", None)
    assert told[broken["id"]]["status"] == "invalid"
    assert told[broken["id"]]["error"]["code"] == "invalid_architecture"
    assert "unknown operator Mystery" in told[broken["id"]]["error"]["detail"]


def test_a_run_without_files_is_ready_whatever_became_of_its_checkpoints(service: Service) -> None:
    made = service.http.post(PATH, json=RUN).json()
    assert (made["status"], made["error"]) == ("ready", None)
    service.checkpoint(made["id"], 10)
    assert service.http.get(f"{PATH}/{made['id']}").json()["status"] == "ready"


def test_a_checkpoint_sent_before_the_verdict_shares_it(service: Service) -> None:
    trajectory_id = posted(service)["id"]
    checkpoint = service.checkpoint(trajectory_id, 10)
    assert checkpoint["status"] == "validating"
    refuse(service, trajectory_id, "The graph has the unknown operator Mystery.")
    body = service.http.get(f"{PATH}/{trajectory_id}").json()
    [kept] = body["checkpoints"]
    assert kept["status"] == "invalid"
    assert kept["error"]["code"] == "invalid_architecture" and "Mystery" in kept["error"]["detail"]
    assert body["files"][0]["error"]["code"] == "unknown_operator"


def test_a_checkpoint_sent_after_a_refusal_is_refused_at_once(service: Service) -> None:
    trajectory_id = posted(service)["id"]
    refuse(service, trajectory_id, "The graph has the unknown operator Mystery.")
    answer = service.http.post(
        f"{PATH}/{trajectory_id}/checkpoints",
        files={"file": ("1.safetensors", b"x")},
        data={"step": "1", "learning_rate": "0.1"},
    )
    assert "Mystery" in problem(answer, 422, "invalid_architecture")["detail"]


def test_a_job_waits_for_the_graph(service: Service) -> None:
    trajectory_id = posted(service)["id"]
    service.checkpoint(trajectory_id, 10)
    body = problem(ask(service, trajectory_id), 409, "input_not_ready")
    assert len(body["errors"]) == 2  # the graph and the checkpoint
    refuse(service, trajectory_id, "The graph has the unknown operator Mystery.")
    body = problem(ask(service, trajectory_id), 422, "invalid_architecture")
    assert pointers(body) == ["/trajectory_id"] and "Mystery" in body["detail"]


def test_a_job_over_a_graph_is_taken_and_estimated(service: Service) -> None:
    trajectory_id = ready(service)
    answer = ask(service, trajectory_id)
    assert answer.status_code == 202, answer.text
    data = dataset(service)
    named = {"trajectory_id": trajectory_id, "train_dataset_id": data, "query_dataset_id": data}
    estimate = service.http.post("/v1/jobs/estimate", json=request_of(named))
    assert estimate.status_code == 200 and estimate.json()["forward_passes"] > 0


def test_seconds_follow_from_jobs_over_the_same_graph_alone(service: Service) -> None:
    job = ask(service, ready(service)).json()
    service.succeed(job["id"], timing={"seconds": 5.0, "forward_passes": 100, "device": "cpu"})
    data = dataset(service)

    def basis(structure: str) -> Any:
        run = ready(service, FEATURES | {"structure": structure})
        named = {"trajectory_id": run, "train_dataset_id": data, "query_dataset_id": data}
        return service.http.post("/v1/jobs/estimate", json=request_of(named)).json()["basis"]

    assert basis("0" * 64) == "architecture"
    assert basis("2" * 64) is None


def images(*shape: int) -> Any:
    return np.zeros((6, *shape), np.uint8)


def port(shape: list[int | None], dtype: str = "float32") -> list[dict[str, Any]]:
    return [{"name": "x", "shape": shape, "dtype": dtype}]


@pytest.mark.parametrize(
    ("inputs", "given", "words"),
    [
        (port([None, 4]), np.zeros((6, 5), np.float32), "takes 4"),
        (port([None, 3, 8, 8]), images(8, 8, 1), "takes 3 x 8 x 8"),
        (port([None, 3, None, None]), images(8, 8, 3), None),
        (port([None, 1, 8, None]), np.zeros((6, 8, 8), np.float32), None),
        (port([None, None], "int64"), np.zeros((6, 9), np.int64), None),
        (port([None, 7], "int64"), np.zeros((6, 9), np.int64), "takes 7"),
        (port([None, 7], "int64"), np.zeros((6, 7), np.float32), "token ids"),
        (port([None, 7], "int64"), np.full((6, 7), 50), "go up to 50"),
        (port([None, 7], "int64"), np.full((6, 7), -1), "go down to -1"),
    ],
)
def test_data_are_held_against_the_graphs_input(
    service: Service, inputs: list[dict[str, Any]], given: Any, words: str | None
) -> None:
    trajectory_id = ready(service, FEATURES | {"inputs": inputs, "vocab_size": 50})
    answer = ask(service, trajectory_id, given, np.arange(6) % 3)
    if words is None:
        assert answer.status_code == 202, answer.text
    else:
        assert words in problem(answer, 422, "shape_mismatch")["detail"]


@pytest.mark.parametrize(("outputs", "taken"), [([None, 2], False), ([None, 3], True), ([None, None], True)])
def test_labels_are_held_against_the_graphs_output(
    service: Service, outputs: list[int | None], taken: bool
) -> None:
    trajectory_id = ready(service, FEATURES | {"outputs": port(outputs)})
    answer = ask(service, trajectory_id)
    if taken:
        assert answer.status_code == 202, answer.text
    else:
        assert "go up to 2" in problem(answer, 422, "label_out_of_range")["detail"]


def test_a_field_is_regressed_onto_one_of_its_shape(service: Service) -> None:
    task = {"type": "regression", "loss": "mse"}
    trajectory_id = ready(service, FEATURES | {"outputs": port([None, 2, 2])}, task=task)
    inputs, _ = arrays()
    assert ask(service, trajectory_id, inputs, np.ones((12, 2, 2), np.float32)).status_code == 202
    problem(ask(service, trajectory_id, inputs, np.ones((12, 3), np.float32)), 422, "shape_mismatch")


def test_runs_of_one_graph_are_averaged_and_others_not(service: Service) -> None:
    runs = [ready(service), ready(service), ready(service, FEATURES | {"structure": "1" * 64})]
    data = dataset(service)

    def post_over(*ids: str) -> httpx.Response:
        named = {"trajectory_ids": list(ids), "train_dataset_id": data, "query_dataset_id": data}
        body: dict[str, Any] = {"type": "influence", "method": {"name": "tracin"}}
        return service.http.post("/v1/jobs", json=body | named)

    assert post_over(*runs[:2]).status_code == 202
    problem(post_over(*runs[1:]), 422, "trajectories_differ")


def test_the_document_and_the_catalog_tell_of_graphs(service: Service) -> None:
    document = service.http.get("/v1/openapi.json").json()
    content = document["paths"][PATH]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/TrajectoryIn"}
    properties = content["multipart/form-data"]["schema"]["properties"]
    assert properties["trajectory"] == content["application/json"]["schema"]
    assert properties["architecture_file"]["format"] == "binary"
    [graph] = [one for one in pages(service.http, "/v1/architectures") if one["name"] == "onnx"]
    assert "architecture_file" in graph["description"]
    told = service.http.get("/v1/capabilities").json()
    assert "onnx" in told["architectures"]
