"""Bad input through HTTP: a 4xx problem or a failed status in words, and nothing left behind."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests import walk
from tests.services import Service


@pytest.fixture
def client(embedded_service: Service) -> Iterator[httpx.Client]:
    with embedded_service.client() as client:
        yield client
        assert client.get("/readyz").status_code == 200, "the service still answers"


@pytest.fixture(scope="module")
def ready(embedded_service: Service) -> dict[str, str]:
    """A run, its training set and its query set, all ready."""
    with embedded_service.client() as client:
        x, y = walk.digits(60)
        train, query = (
            walk.dataset(client, walk.npz(inputs=x, targets=y)),
            walk.dataset(client, walk.npz(inputs=x[:20], targets=y[:20])),
        )
        return {"trajectory": walk.run(client, (10, 20)), "train": train["id"], "query": query["id"]}


def problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    body: dict[str, object] = walk.ok(response, status)
    assert response.headers["content-type"].startswith("application/problem+json")
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"] and body["title"] and body["request_id"]
    return body


def npy_that_asks_for_too_much() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (300000000, 1), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 16


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def one_array(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


X, Y = walk.digits(40)
NAN, INF = X.copy(), X.copy()
NAN[7, 3], INF[9, 1] = np.nan, np.inf
LABELS = one_array(Y)
DATASETS = {
    "truncated npz": (walk.npz(inputs=X, targets=Y)[:-200], "d.npz"),
    "truncated safetensors": (
        save({"inputs": torch.tensor(X), "targets": torch.tensor(Y)})[:-100],
        "d.safetensors",
    ),
    "object array": (
        archive(inputs=one_array(np.array([{}] * 40, dtype=object), allow_pickle=True), targets=LABELS),
        "d.npz",
    ),
    "pickle": (b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.", "d.npz"),
    "pickle named npy": (archive(inputs=b"\x80\x04cos\nsystem\n.", targets=LABELS), "d.npz"),
    "header asks for more than there is": (
        archive(inputs=npy_that_asks_for_too_much(), targets=LABELS),
        "d.npz",
    ),
    "N of inputs and targets differ": (walk.npz(inputs=X, targets=Y[:-1]), "d.npz"),
    "NaN": (walk.npz(inputs=NAN, targets=Y), "d.npz"),
    "Inf": (walk.npz(inputs=INF, targets=Y), "d.npz"),
    "no targets": (walk.npz(inputs=X), "d.npz"),
    "complex numbers": (walk.npz(inputs=X.astype(np.complex64), targets=Y), "d.npz"),
    "no samples": (walk.npz(inputs=X[:0], targets=Y[:0]), "d.npz"),
}


@pytest.mark.parametrize("name", DATASETS)
def test_a_bad_data_set_is_invalid_and_says_why(
    client: httpx.Client, embedded_service: Service, name: str
) -> None:
    content, filename = DATASETS[name]
    before = blob_files(embedded_service)
    body = walk.dataset(client, content, filename)
    assert body["status"] == "invalid", body
    assert body["error"]["fault"] == "user"
    assert len(body["error"]["detail"]) > 30
    assert blob_files(embedded_service) == before
    assert client.delete(f"/v1/datasets/{body['id']}").status_code == 204


def blob_files(service: Service) -> set[Path]:
    return {path for path in (service.data_dir / "blobs").rglob("*") if path.is_file()}


def test_the_sample_with_nan_is_named(client: httpx.Client) -> None:
    body = walk.dataset(client, *DATASETS["NaN"])
    assert "7" in body["error"]["detail"]


def test_an_empty_file_is_refused(client: httpx.Client, embedded_service: Service) -> None:
    before = blob_files(embedded_service)
    problem(walk.post_dataset(client, b""), 422, "empty_file")
    assert blob_files(embedded_service) == before


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8, np.uint8])
def test_other_number_types_are_converted(client: httpx.Client, dtype: type) -> None:
    body = walk.dataset(client, walk.npz(inputs=(X * 16).astype(dtype), targets=Y.astype(np.int8)))
    assert body["status"] == "ready", body["error"]
    assert body["num_samples"] == 40
    assert body["num_classes"] == 10


def changed(**tensors: torch.Tensor | None) -> bytes:
    state = walk.mlp_state() | {name.replace("__", "."): t for name, t in tensors.items()}
    return save({name: t for name, t in state.items() if t is not None})


CHECKPOINTS = {
    "lacks a tensor": (changed(layers__1__bias=None), "layers.1.bias", "invalid_checkpoint"),
    "has an extra tensor": (changed(layers__2__bias=torch.zeros(3)), "layers.2.bias", "invalid_checkpoint"),
    "has a wrong shape": (
        changed(layers__0__weight=torch.zeros(8, 63)),
        "layers.0.weight",
        "invalid_checkpoint",
    ),
    "holds NaN": (changed(layers__0__bias=torch.full((8,), torch.nan)), "layers.0.bias", "non_finite"),
    "is truncated": (changed()[:-100], "", "corrupt_file"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_bad_checkpoint_is_invalid_and_names_the_tensor(client: httpx.Client, name: str) -> None:
    content, tensor, code = CHECKPOINTS[name]
    body = walk.checkpoint(client, walk.trajectory(client), content)
    assert body["status"] == "invalid", body
    assert body["error"]["code"] == code
    assert tensor in json.dumps(body["error"])


def test_an_invalid_checkpoint_can_be_replaced_at_its_step(client: httpx.Client) -> None:
    run = walk.trajectory(client)
    assert walk.checkpoint(client, run, changed()[:-100], step=5)["status"] == "invalid"
    assert walk.checkpoint(client, run, changed(), step=5)["status"] == "ready"


def test_two_checkpoints_at_one_step_are_refused(client: httpx.Client) -> None:
    run = walk.trajectory(client)
    walk.checkpoint(client, run, changed(), step=5)
    problem(walk.post_checkpoint(client, run, changed(), step=5), 409, "step_taken")


RATES = [
    {"learning_rate": "-0.1"},
    {"learning_rate": "nan"},
    {"learning_rate": "inf"},
    {"learning_rates": "[0.1, -1]"},
    {"learning_rates": "[0.1, NaN]"},
    {"learning_rates": "{}"},
]


@pytest.mark.parametrize("rates", RATES)
def test_a_learning_rate_must_be_a_number_from_zero(client: httpx.Client, rates: dict[str, str]) -> None:
    response = walk.post_checkpoint(client, walk.trajectory(client), changed(), **rates)
    assert walk.ok(response, 422)["errors"][0]["pointer"]


def test_a_pickled_checkpoint_is_refused_with_the_way_out(client: httpx.Client) -> None:
    response = walk.post_checkpoint(client, walk.trajectory(client), b"\x80\x02}q\x00.", filename="model.pt")
    assert "safetensors" in str(problem(response, 422, "unsafe_file")["detail"])


@pytest.mark.parametrize(
    ("architecture", "code"),
    [
        ({"name": "no-such", "config": {}}, "unknown_architecture"),
        ({"name": "mlp", "config": walk.MLP | {"colour": 1}}, "validation_error"),
        ({"name": "mlp", "config": {"in_features": 64}}, "validation_error"),
    ],
)
def test_an_unknown_network_or_key_is_refused(client: httpx.Client, architecture: object, code: str) -> None:
    body = {
        "name": "x",
        "architecture": architecture,
        "task": {"type": "classification", "loss": "cross_entropy"},
    }
    problem(client.post("/v1/trajectories", json=body), 422, code)


def test_a_job_without_a_checkpoint_is_refused(client: httpx.Client, ready: dict[str, str]) -> None:
    empty = walk.trajectory(client)
    problem(walk.post_job(client, empty, ready["train"], ready["query"]), 422, "no_checkpoints")


def test_learning_rates_of_the_wrong_length_are_refused(client: httpx.Client, ready: dict[str, str]) -> None:
    run = walk.trajectory(client)
    walk.checkpoint(client, run, changed(), step=5, learning_rates=json.dumps([0.1] * 4))
    body = walk.ok(walk.post_job(client, run, ready["train"], ready["query"]), 422)
    assert "4" in body["detail"] and "5" in body["detail"]


def test_rates_of_zero_are_fine(client: httpx.Client, ready: dict[str, str]) -> None:
    run = walk.trajectory(client)
    walk.checkpoint(client, run, changed(), step=4, learning_rates=json.dumps([0, 0.1, 0.2, 0.2]))
    job = walk.ok(walk.post_job(client, run, ready["train"], ready["query"]), 202)
    assert walk.finished(client, job["id"])["status"] == "succeeded"


def test_labels_outside_the_network_are_refused(client: httpx.Client, ready: dict[str, str]) -> None:
    bad = walk.dataset(client, walk.npz(inputs=X, targets=Y + 1))
    problem(walk.post_job(client, ready["trajectory"], bad["id"], ready["query"]), 422, "label_out_of_range")
    problem(walk.post_job(client, ready["trajectory"], ready["train"], bad["id"]), 422, "label_out_of_range")


def test_inputs_of_another_shape_are_refused(client: httpx.Client, ready: dict[str, str]) -> None:
    bad = walk.dataset(client, walk.npz(inputs=X[:, :60], targets=Y))
    problem(walk.post_job(client, ready["trajectory"], bad["id"], ready["query"]), 422, "shape_mismatch")
    problem(walk.post_job(client, ready["trajectory"], ready["train"], bad["id"]), 422, "shape_mismatch")


def test_data_that_are_still_validating_are_not_ready(client: httpx.Client, ready: dict[str, str]) -> None:
    posted = walk.ok(
        walk.post_dataset(
            client, walk.npz(inputs=np.zeros((200_000, 64), np.float32), targets=np.zeros(200_000, np.int64))
        ),
        202,
    )
    response = walk.post_job(client, ready["trajectory"], posted["id"], ready["query"])
    problem(response, 409, "input_not_ready")
    assert "retry-after" in response.headers
    walk.until(client, f"/v1/datasets/{posted['id']}", {"ready"})


@pytest.mark.parametrize(
    "method",
    [{"name": "astrology"}, {"name": "diff_in", "colour": 1}, {"name": "diff_in", "lanczos_steps": 0}],
)
def test_an_unknown_method_or_option_is_refused(
    client: httpx.Client, ready: dict[str, str], method: object
) -> None:
    response = walk.post_job(client, ready["trajectory"], ready["train"], ready["query"], method=method)
    assert walk.ok(response, 422)["errors"][0]["pointer"].startswith("/method")


def test_bad_json_is_refused(client: httpx.Client) -> None:
    response = client.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_a_wrong_key_is_refused(embedded_service: Service) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
        response = httpx.get(f"{embedded_service.url}/v1/jobs", headers=headers)
        problem(response, 401, "unauthorized")
        assert response.headers["www-authenticate"].startswith("Bearer")


def test_ids_of_another_kind_are_not_found(client: httpx.Client, ready: dict[str, str]) -> None:
    for path in ("jobs", "datasets", "trajectories"):
        other = ready["train"] if path != "datasets" else ready["trajectory"]
        problem(client.get(f"/v1/{path}/{other}"), 404, "not_found")
    problem(walk.post_job(client, ready["train"], ready["train"], ready["query"]), 404, "not_found")


def test_an_absurd_learning_rate_is_the_users_fault(client: httpx.Client, ready: dict[str, str]) -> None:
    run = walk.trajectory(client, batch_size=8)
    walk.checkpoint(client, run, changed(), step=5, learning_rate=1e308)
    for method in ("diff_in", "tracin", "diff_in_eq9"):
        posted = walk.post_job(client, run, ready["train"], ready["query"], method={"name": method})
        job = walk.finished(client, walk.ok(posted, 202)["id"])
        assert (job["status"], job["error"]["code"]) == ("failed", "non_finite"), job
        assert job["error"]["fault"] == "user"
        assert "learning rate" in job["error"]["detail"]


def test_a_run_that_learned_nothing_is_warned_of(client: httpx.Client, ready: dict[str, str]) -> None:
    run = walk.trajectory(client)
    walk.checkpoint(client, run, changed(), step=5, learning_rate=0)
    posted = walk.post_job(client, run, ready["train"], ready["query"], method={"name": "diff_in_eq9"})
    job = walk.finished(client, walk.ok(posted, 202)["id"])
    codes = {warning["code"] for warning in job["result"]["warnings"]}
    assert codes == {"as_published", "no_learning", "batch_size_unknown"}


@pytest.mark.parametrize(
    "part", [{}, {"labels": []}, {"indices": [-1]}, {"labels": [1], "indices": [1]}, {"indices": [3, 3]}]
)
def test_a_query_part_is_labels_or_indices(
    client: httpx.Client, ready: dict[str, str], part: dict[str, list[int]]
) -> None:
    body = walk.ok(walk.post_job(client, ready["trajectory"], ready["train"], ready["query"], part), 422)
    assert all(error["pointer"].startswith("/query") for error in body["errors"])
    assert len(body["errors"]) == 1
