"""Data sets over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.api.front_end import Service, pointers, problem, request_of


def test_an_upload_is_accepted_and_waits_for_its_validation(service: Service) -> None:
    answer = service.http.post(
        "/v1/datasets",
        files={"file": ("mnist.npz", b"content")},
        data={"name": "mnist", "notes": "the old one", "metadata": '{"git": "abc"}'},
    )
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/v1/datasets/{body['id']}"
    assert answer.headers["retry-after"] == "1"
    assert body["id"].startswith("ds_")
    assert body["status"] == "validating"
    assert (body["name"], body["notes"], body["metadata"]) == ("mnist", "the old one", {"git": "abc"})
    assert (body["format"], body["filename"], body["bytes"]) == ("npz", "mnist.npz", 7)
    assert body["num_samples"] is None and body["input"] is None
    assert service.http.get(answer.headers["location"]).json() == body


@pytest.mark.parametrize(
    ("filename", "fields", "found"),
    [
        ("a.npz", {}, "npz"),
        ("a.SafeTensors", {}, "safetensors"),
        ("a.dat", {"format": "npz"}, "npz"),
        ("a.npz", {"format": "safetensors"}, "safetensors"),
    ],
)
def test_the_format_is_the_one_given_or_the_files_ending(
    service: Service, filename: str, fields: dict[str, str], found: str
) -> None:
    answer = service.http.post(
        "/v1/datasets", files={"file": (filename, b"content")}, data={"name": "a"} | fields
    )
    assert answer.json()["format"] == found


@pytest.mark.parametrize(("filename", "fields"), [("a.docx", {}), ("a.npz", {"format": "docx"}), ("", {})])
def test_an_unknown_format_is_refused(service: Service, filename: str, fields: dict[str, str]) -> None:
    content = (
        f'--f\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\nx\r\n'
        + "".join(
            f'--f\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
            for k, v in ({"name": "a"} | fields).items()
        )
        + "--f--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=f"}
    answer = service.http.post("/v1/datasets", content=content.encode(), headers=headers)
    assert pointers(problem(answer, 422, "unknown_format")) == ["/format"]


def test_a_data_set_needs_a_name(service: Service) -> None:
    answer = service.http.post("/v1/datasets", files={"file": ("a.npz", b"content")})
    assert pointers(problem(answer, 422, "validation_error")) == ["/name"]


def test_a_ready_data_set_knows_itself(service: Service) -> None:
    dataset_id = service.upload()["id"]
    service.validate(dataset_id)
    body = service.http.get(f"/v1/datasets/{dataset_id}").json()
    assert body["status"] == "ready"
    assert (body["num_samples"], body["num_classes"], body["class_counts"]) == (12, 3, [4, 4, 4])
    assert body["input"] == {"shape": [4], "dtype": "float32"}
    assert body["target"] == {"shape": [], "dtype": "int64", "min": 0, "max": 2}


def test_an_invalid_data_set_says_why(service: Service) -> None:
    dataset_id = service.upload()["id"]
    service.refuse(dataset_id, "The zip archive is truncated.")
    body = service.http.get(f"/v1/datasets/{dataset_id}").json()
    assert body["status"] == "invalid"
    assert body["error"]["detail"] == "The zip archive is truncated."


def test_polling_is_cheap_until_something_changed(service: Service) -> None:
    path = f"/v1/datasets/{service.upload()['id']}"
    first = service.http.get(path)
    assert first.headers["retry-after"] == "1"
    same = {"If-None-Match": first.headers["etag"]}
    again = service.http.get(path, headers=same)
    assert (again.status_code, again.content) == (304, b"")
    service.validate(path.rpartition("/")[2])
    changed = service.http.get(path, headers=same)
    assert changed.status_code == 200
    assert "retry-after" not in changed.headers


def test_the_list_can_be_filtered_by_status(service: Service) -> None:
    waiting, ready = service.upload()["id"], service.upload()["id"]
    service.validate(ready)
    for status, found in (("validating", [waiting]), ("ready", [ready]), ("invalid", [])):
        rows = service.http.get("/v1/datasets", params={"status": status}).json()["data"]
        assert [row["id"] for row in rows] == found
    problem(service.http.get("/v1/datasets?status=odd"), 422, "validation_error")


def test_a_data_set_can_be_renamed(service: Service) -> None:
    path = f"/v1/datasets/{service.upload(notes='kept')['id']}"
    body = service.http.patch(path, json={"name": "new", "metadata": {"a": "b"}}).json()
    assert (body["name"], body["notes"], body["metadata"]) == ("new", "kept", {"a": "b"})
    assert service.http.get(path).json() == body
    problem(service.http.patch(path, json={"status": "ready"}), 422, "validation_error")


@pytest.mark.parametrize("ready", [False, True])
def test_a_deleted_data_set_leaves_no_bytes(service: Service, ready: bool) -> None:
    unique = np.random.default_rng().random((12, 4)).astype(np.float32)
    before = kept(service)
    dataset_id = service.upload(unique)["id"]
    if ready:
        service.validate(dataset_id, unique, np.random.default_rng().integers(0, 3, 12))
    assert service.http.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    problem(service.http.get(f"/v1/datasets/{dataset_id}"), 404, "not_found")
    problem(service.http.delete(f"/v1/datasets/{dataset_id}"), 404, "not_found")
    assert kept(service) == before


def kept(service: Service) -> set[Any]:
    return {path for path in service.blobs.folder.rglob("*") if path.is_file()}


def test_what_a_job_names_cannot_be_deleted(
    service: Service, inputs: dict[str, str], job: dict[str, Any]
) -> None:
    for role in ("train", "query"):
        answer = service.http.delete(f"/v1/datasets/{inputs[f'{role}_dataset_id']}")
        body = problem(answer, 409, "in_use")
        assert body["jobs"] == [job["id"]] and job["id"] in body["detail"]
    service.http.post(f"/v1/jobs/{job['id']}/cancel").raise_for_status()
    service.http.delete(f"/v1/jobs/{job['id']}").raise_for_status()
    assert service.http.delete(f"/v1/datasets/{inputs['train_dataset_id']}").status_code == 204


def test_an_id_of_another_kind_is_not_found(service: Service, inputs: dict[str, str]) -> None:
    for path in ("datasets", "jobs"):
        problem(service.http.get(f"/v1/{path}/{inputs['trajectory_id']}"), 404, "not_found")
    swapped = request_of(inputs) | {"train_dataset_id": inputs["trajectory_id"]}
    body = problem(service.http.post("/v1/jobs", json=swapped), 404, "not_found")
    assert pointers(body) == ["/train_dataset_id"]
