"""Uploads taken over by data sets, checkpoints and runs: in JSON, without the bytes being sent again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.api.front_end import RUN, Service, arrays, npz, pointers, problem

CONTENT = npz(*arrays())


def uploaded(
    service: Service, content: bytes = CONTENT, filename: str = "d.npz", *, complete: bool = True
) -> str:
    answer = service.http.post("/v1/uploads", json={"filename": filename, "bytes": len(content)})
    upload_id: str = answer.json()["id"]
    assert service.http.put(f"/v1/uploads/{upload_id}/parts/1", content=content).status_code == 204
    if complete:
        assert service.http.post(f"/v1/uploads/{upload_id}/complete").status_code == 200
    return upload_id


def blobs(service: Service, content: bytes) -> list[Path]:
    return list(service.blobs.folder.glob(f"*/{hashlib.sha256(content).hexdigest()}-*"))


def dataset(service: Service, **body: Any) -> Any:
    return service.http.post("/v1/datasets", json={"name": "d"} | body)


def test_a_data_set_is_made_of_an_upload(service: Service) -> None:
    inputs, targets = arrays()
    content = npz(inputs + 0.5, targets)  # which no other test of this service sends
    upload_id = uploaded(service, content)
    answer = dataset(service, upload_id=upload_id, notes="n", metadata={"a": "b"})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/v1/datasets/{body['id']}"
    assert (body["status"], body["format"], body["filename"]) == ("validating", "npz", "d.npz")
    assert (body["bytes"], body["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    again = dataset(service, upload_id=upload_id).json()
    assert service.http.delete(f"/v1/uploads/{upload_id}").status_code == 204
    service.validate(body["id"])
    assert len(blobs(service, content)) == 1, "another data set is still to be validated"
    assert service.http.delete(f"/v1/datasets/{again['id']}").status_code == 204
    assert blobs(service, content) == []
    assert service.http.get(f"/v1/datasets/{body['id']}").json()["status"] == "ready"


def test_what_is_told_of_a_table_in_json_is_kept(service: Service) -> None:
    words = uploaded(service, b"{}", "tokenizer.json")
    table = uploaded(service, b"text,label\na,b\n", "t.csv")
    columns = {"inputs": "text", "targets": "label"}
    told = {"columns": columns, "max_length": 8, "image_size": [4, 4]}
    body = dataset(service, upload_id=table, tokenizer_upload_id=words, **told)
    assert body.status_code == 202, body.text
    for wrong in ({"max_length": "8"}, {"columns": "text"}, {"image_size": [4]}, {"colour": 1}):
        refused = problem(dataset(service, upload_id=table, **wrong), 422, "validation_error")
        assert pointers(refused)[0].startswith(f"/{next(iter(wrong))}")
    arrays_have_none = dataset(service, upload_id=uploaded(service), columns=columns)
    assert pointers(problem(arrays_have_none, 422, "validation_error")) == ["/columns"]
    unknown = dataset(service, upload_id=uploaded(service, filename="d.xyz"))
    problem(unknown, 422, "unknown_format")


def test_only_a_complete_upload_can_be_used(service: Service) -> None:
    upload_id = uploaded(service, complete=False)
    refused = problem(dataset(service, upload_id=upload_id), 409, "upload_incomplete")
    assert pointers(refused) == ["/upload_id"] and upload_id in refused["detail"]
    assert pointers(problem(dataset(service, upload_id="up_1"), 404, "not_found")) == ["/upload_id"]


def test_a_body_of_another_kind_is_told_what_is_wanted(service: Service) -> None:
    headers = {"Content-Type": "text/plain"}
    for path in ("/v1/datasets", f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"):
        answer = service.http.post(path, content=b"x", headers=headers)
        assert "multipart" in problem(answer, 415, "unsupported_media_type")["detail"]


def test_a_checkpoint_is_made_of_uploads(service: Service) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    tensors = uploaded(service, b"tensors", "10.safetensors")
    state = uploaded(service, b"momentum", "10.optimizer.safetensors")
    body = {"upload_id": tensors, "optimizer_upload_id": state, "step": 10, "learning_rate": 0.1}
    answer = service.http.post(path, json=body)
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert (made["step"], made["learning_rate"], made["filename"]) == (10, 0.1, "10.safetensors")
    assert made["optimizer_file"]["sha256"] == hashlib.sha256(b"momentum").hexdigest()
    problem(service.http.post(path, json=body), 409, "step_taken")
    rates = {"upload_id": tensors, "step": 12, "learning_rates": [0.1, 0.2]}
    assert service.http.post(path, json=rates).json()["learning_rates"] == [0.1, 0.2]


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"step": "14"}, "/step"),
        ({"step": 14, "learning_rate": None}, ""),
        ({"step": 0}, ""),
        ({"learning_rates": [0.1]}, ""),
        ({"rate": 1}, "/rate"),
        ({"upload_id": "up_1"}, "/upload_id"),
    ],
    ids=str,
)
def test_a_wrong_checkpoint_in_json_is_refused(service: Service, wrong: Any, pointer: str) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    body = {"upload_id": uploaded(service, b"t", "t.safetensors"), "step": 14, "learning_rate": 0.1}
    answer = service.http.post(path, json=body | wrong)
    assert answer.status_code in (404, 422), answer.text
    assert pointers(answer.json()) == [pointer]


def test_no_pickle_comes_by_an_upload(service: Service) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    body = {"upload_id": uploaded(service, b"t", "t.pt"), "step": 1, "learning_rate": 0.1}
    problem(service.http.post(path, json=body), 422, "unsafe_file")


def test_a_run_takes_its_graph_from_an_upload(service: Service) -> None:
    upload_id = uploaded(service, b"a graph", "network.onnx")
    for told in (
        {"architecture": {"onnx_upload_id": upload_id}},
        {"architecture": {"name": "onnx"}, "architecture_upload_id": upload_id},
    ):
        answer = service.http.post("/v1/trajectories", json=RUN | told)
        assert answer.status_code == 201, answer.text
        (file,) = answer.json()["files"]
        assert (file["role"], file["status"], file["filename"]) == (
            "architecture",
            "validating",
            "network.onnx",
        )
        assert answer.json()["architecture"]["name"] == "onnx"
        assert answer.headers["retry-after"] == "1"


def test_a_graph_that_is_no_complete_upload_is_refused(service: Service) -> None:
    body = RUN | {"architecture": {"onnx_upload_id": "up_1"}}
    refused = problem(service.http.post("/v1/trajectories", json=body), 404, "not_found")
    assert pointers(refused) == ["/architecture_upload_id"]
    both = body | {"architecture_upload_id": "up_2"}
    problem(service.http.post("/v1/trajectories", json=both), 422, "validation_error")
    unwanted = RUN | {"architecture_upload_id": uploaded(service, b"g", "network.onnx")}
    refused = problem(service.http.post("/v1/trajectories", json=unwanted), 422, "validation_error")
    assert pointers(refused) == ["/architecture"]
