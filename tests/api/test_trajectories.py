"""Trajectories and their checkpoints over HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.api.front_end import RUN, Service, pages, pointers, problem


def test_a_trajectory_is_kept_with_its_defaults_filled_in(service: Service) -> None:
    answer = service.http.post("/v1/trajectories", json=RUN)
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/v1/trajectories/{body['id']}"
    assert body["architecture"]["config"] == {
        "in_features": 4,
        "hidden": [8],
        "num_classes": 3,
        "activation": "gelu",
    }
    assert body["optimizer"]["name"] == "sgd"
    assert body["preprocessing"] == {"scale": None, "mean": [], "std": []}
    assert (body["batch_size"], body["train_size"], body["total_steps"]) == (None, None, None)
    assert body["checkpoints"] == []
    assert service.http.get(answer.headers["location"]).json() == body


def test_the_list_leaves_the_checkpoints_out(service: Service) -> None:
    service.checkpoint(service.trajectory()["id"], 1)
    assert ["checkpoints" in row for row in pages(service.http, "/v1/trajectories")] == [False]


def test_checkpoints_come_by_step_whatever_the_order_of_their_uploads(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    for step in (30, 10, 20):
        service.checkpoint(trajectory_id, step)
    body = service.http.get(f"/v1/trajectories/{trajectory_id}").json()
    assert [one["step"] for one in body["checkpoints"]] == [10, 20, 30]
    assert {one["status"] for one in body["checkpoints"]} == {"validating"}


def test_a_checkpoint_is_accepted_and_waits_for_its_validation(service: Service) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    answer = service.http.post(
        path, files={"file": ("938.safetensors", b"tensors")}, data={"step": "938", "learning_rate": "0"}
    )
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"{path}/{body['id']}"
    assert answer.headers["retry-after"] == "1"
    assert (body["step"], body["learning_rate"], body["learning_rates"]) == (938, 0.0, None)
    assert (body["status"], body["filename"], body["bytes"]) == ("validating", "938.safetensors", 7)
    got = service.http.get(answer.headers["location"])
    assert got.json() == body
    assert got.headers["retry-after"] == "1"


def test_learning_rates_may_be_one_a_step(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    body = service.checkpoint(trajectory_id, 3, learning_rates="[0, 0.1, 1]")
    assert (body["learning_rate"], body["learning_rates"]) == (None, [0.0, 0.1, 1.0])


def test_a_long_schedule_fits_into_a_field(service: Service) -> None:
    rates = [0.1 + step / 3e6 for step in range(20_000)]
    body = service.checkpoint(service.trajectory()["id"], 20_000, learning_rates=json.dumps(rates))
    assert body["learning_rates"] == rates


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"step": "5"}, ""),
        ({"step": "5", "learning_rate": "0.1", "learning_rates": "[0.1]"}, ""),
        ({"step": "0", "learning_rate": "0.1"}, ""),
        ({"step": "-1", "learning_rate": "0.1"}, "/step"),
        ({"step": "five", "learning_rate": "0.1"}, "/step"),
        ({"step": str(2**63), "learning_rate": "0.1"}, "/step"),
        ({"learning_rate": "0.1"}, "/step"),
        ({"step": "5", "learning_rate": "-0.1"}, "/learning_rate"),
        ({"step": "5", "learning_rate": "nan"}, "/learning_rate"),
        ({"step": "5", "learning_rate": "inf"}, "/learning_rate"),
        ({"step": "5", "learning_rates": "[0.1, -1]"}, "/learning_rates/1"),
        ({"step": "5", "learning_rates": "[0.1, NaN]"}, "/learning_rates/1"),
        ({"step": "5", "learning_rates": '["0.1"]'}, "/learning_rates/0"),
        ({"step": "5", "learning_rates": "0.1"}, "/learning_rates"),
        ({"step": "5", "learning_rates": "[]"}, ""),
        ({"step": "1", "learning_rates": "[0.1, 0.1]"}, ""),
        ({"step": "5", "learning_rate": "0.1", "epoch": "1"}, "/epoch"),
    ],
)
def test_a_checkpoints_field_at_fault_is_pointed_at(
    service: Service, fields: dict[str, str], pointer: str
) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    answer = service.http.post(path, files={"file": ("c.safetensors", b"tensors")}, data=fields)
    assert pointers(problem(answer, 422, "validation_error")) == [pointer]


def test_a_checkpoint_is_named_and_renamed_as_everything_is(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    told = {"learning_rate": "0.1", "name": "the best", "notes": "by accuracy", "metadata": '{"acc": "0.91"}'}
    made = service.checkpoint(trajectory_id, 10, **told)
    assert (made["name"], made["notes"], made["metadata"]) == ("the best", "by accuracy", {"acc": "0.91"})
    path = f"/v1/trajectories/{trajectory_id}/checkpoints/{made['id']}"
    known = {"If-Match": service.http.get(path).headers["etag"]}
    edited = service.http.patch(path, json={"name": "not the best", "metadata": {}}, headers=known)
    assert edited.json() == service.http.get(path).json() == made | {"name": "not the best", "metadata": {}}
    problem(service.http.patch(path, json={"name": "late"}, headers=known), 412, "precondition_failed")
    plain = service.checkpoint(trajectory_id, 20)
    assert (plain["name"], plain["notes"], plain["metadata"]) == ("", "", {})


def test_a_step_is_taken_once(service: Service) -> None:
    trajectory_id = service.trajectory()["id"]
    first = service.checkpoint(trajectory_id, 10)
    path = f"/v1/trajectories/{trajectory_id}/checkpoints"
    fields = {"step": "10", "learning_rate": "0.1"}
    answer = service.http.post(path, files={"file": ("c.safetensors", b"other")}, data=fields)
    assert first["id"] in problem(answer, 409, "step_taken")["detail"]
    service.refuse(first["id"])
    assert service.checkpoint(trajectory_id, 10)["id"] != first["id"]


@pytest.mark.parametrize("filename", ["model.pt", "model.PTH", "weights.pkl"])
def test_a_pickle_is_refused_with_the_way_out(service: Service, filename: str) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    fields = {"step": "10", "learning_rate": "0.1"}
    answer = service.http.post(path, files={"file": (filename, b"\x80\x02.")}, data=fields)
    assert "safetensors" in problem(answer, 422, "unsafe_file")["detail"]


def test_a_checkpoint_of_an_unknown_trajectory_is_not_found(service: Service) -> None:
    answer = service.http.post(
        "/v1/trajectories/tr_of_nobody/checkpoints",
        files={"file": ("c.safetensors", b"tensors")},
        data={"step": "10", "learning_rate": "0.1"},
    )
    problem(answer, 404, "not_found")


def test_a_checkpoint_belongs_to_its_own_trajectory(service: Service) -> None:
    mine, other = service.trajectory()["id"], service.trajectory()["id"]
    checkpoint_id = service.checkpoint(mine, 10)["id"]
    problem(service.http.get(f"/v1/trajectories/{other}/checkpoints/{checkpoint_id}"), 404, "not_found")
    problem(service.http.delete(f"/v1/trajectories/{other}/checkpoints/{checkpoint_id}"), 404, "not_found")


def test_polling_stops_when_no_checkpoint_is_validating(service: Service) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}"
    checkpoint_id = service.checkpoint(path.rpartition("/")[2], 10)["id"]
    waiting = service.http.get(path)
    assert waiting.headers["retry-after"] == "1"
    service.accept(checkpoint_id)
    done = service.http.get(path, headers={"If-None-Match": waiting.headers["etag"]})
    assert done.status_code == 200
    assert "retry-after" not in done.headers
    same = service.http.get(path, headers={"If-None-Match": done.headers["etag"]})
    assert same.status_code == 304


def test_an_unused_trajectory_goes_with_its_checkpoints(service: Service) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}"
    service.checkpoint(path.rpartition("/")[2], 10)
    assert service.http.delete(path).status_code == 204
    problem(service.http.get(path), 404, "not_found")


def test_what_a_job_was_frozen_on_cannot_be_deleted(service: Service, job: dict[str, Any]) -> None:
    path = f"/v1/trajectories/{job['trajectory_id']}"
    assert problem(service.http.delete(path), 409, "in_use")["jobs"] == [job["id"]]
    frozen = job["checkpoint_ids"][0]
    assert problem(service.http.delete(f"{path}/checkpoints/{frozen}"), 409, "in_use")["jobs"] == [job["id"]]
    later = service.checkpoint(job["trajectory_id"], 30)["id"]
    assert service.http.delete(f"{path}/checkpoints/{later}").status_code == 204


def test_a_trajectory_can_be_renamed(service: Service) -> None:
    path = f"/v1/trajectories/{service.trajectory(notes='kept')['id']}"
    body = service.http.patch(path, json={"name": "new"}).json()
    assert (body["name"], body["notes"]) == ("new", "kept")


def test_a_recipe_is_kept_with_its_defaults(service: Service) -> None:
    schedule = {"name": "cosine", "learning_rate": 0.1}
    recipe = {"batch_size": 64, "epochs": 5, "schedule": schedule}
    kept = service.http.post("/v1/trajectories", json=RUN | {"recipe": recipe}).json()["recipe"]
    assert kept["schedule"] == schedule | {"min_learning_rate": 0.0, "warmup_steps": 0}
    assert (kept["batch_size"], kept["epochs"], kept["total_steps"]) == (64, 5, None)
    assert (kept["seed"], kept["drop_last"], kept["augmentation"]) == (None, False, "none")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"schedule": {"name": "cosine"}}, "/recipe/schedule/learning_rate"),
        ({"schedule": {"name": "mystery", "learning_rate": 0.1}}, "/recipe/schedule"),
        ({"schedule": {"name": "constant", "learning_rate": 0.1, "warmup": 5}}, "/recipe/schedule/warmup"),
        ({"seed": -1}, "/recipe/seed"),
        ({"drop_last": "yes"}, "/recipe/drop_last"),
        ({"augmentation": "crop"}, "/recipe/augmentation"),
    ],
)
def test_a_recipe_is_typed(service: Service, wrong: dict[str, Any], pointer: str) -> None:
    recipe = {"batch_size": 64, "epochs": 5} | wrong
    answer = service.http.post("/v1/trajectories", json=RUN | {"recipe": recipe})
    assert pointers(problem(answer, 422, "validation_error")) == [pointer]


def test_a_recipe_has_one_length(service: Service) -> None:
    for length in ({}, {"epochs": 5, "total_steps": 100}):
        recipe = {"batch_size": 64} | length
        answer = service.http.post("/v1/trajectories", json=RUN | {"recipe": recipe})
        assert pointers(problem(answer, 422, "validation_error")) == ["/recipe"]


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000"])
def test_text_that_cannot_be_kept_is_refused_and_leaves_nothing(service: Service, text: str) -> None:
    recipe = f'{{"batch_size": 1, "epochs": 1, "schedule": {{"name": "{text}"}}}}'
    content = json.dumps(RUN)[:-1] + f', "recipe": {recipe}}}'
    answer = service.http.post(
        "/v1/trajectories", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert pages(service.http, "/v1/trajectories") == []


def test_a_run_has_a_bounded_number_of_steps(service: Service) -> None:
    run = service.trajectory()["id"]
    answer = service.http.post(
        f"/v1/trajectories/{run}/checkpoints",
        files={"file": ("c.safetensors", b"x")},
        data={"step": "1000000000", "learning_rate": "0.1"},
    )
    assert pointers(problem(answer, 422, "validation_error")) == ["/step"]
    answer = service.http.post("/v1/trajectories", json=RUN | {"total_steps": 2**62})
    assert pointers(problem(answer, 422, "validation_error")) == ["/total_steps"]


@pytest.mark.parametrize("field", ["step", "learning_rate"])
def test_a_number_with_underscores_is_refused(service: Service, field: str) -> None:
    run = service.trajectory()["id"]
    data = {"step": "10", "learning_rate": "0.1"} | {field: "1_0"}
    files = {"file": ("c.safetensors", b"x")}
    answer = service.http.post(f"/v1/trajectories/{run}/checkpoints", files=files, data=data)
    assert pointers(problem(answer, 422, "validation_error")) == [f"/{field}"]


def test_the_initial_state_has_no_learning_rate(service: Service) -> None:
    run = service.trajectory()["id"]
    answer = service.http.post(
        f"/v1/trajectories/{run}/checkpoints", files={"file": ("0.safetensors", b"x")}, data={"step": "0"}
    )
    assert answer.status_code == 202, answer.text
    assert (answer.json()["step"], answer.json()["learning_rate"]) == (0, None)


def test_an_optimizer_file_comes_with_its_checkpoint(service: Service) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    files = {"file": ("10.safetensors", b"tensors"), "optimizer_file": ("adam.safetensors", b"moments")}
    fields = {"step": "10", "learning_rate": "0.1"}
    body = service.http.post(path, files=files, data=fields).json()
    assert (body["filename"], body["bytes"]) == ("10.safetensors", 7)
    told = body["optimizer_file"]
    assert (told["filename"], told["bytes"]) == ("adam.safetensors", 7)
    assert told["sha256"] != body["sha256"]
    assert service.checkpoint(path.split("/")[3], 20)["optimizer_file"] is None
    answer = service.http.delete(f"{path}/{body['id']}")
    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("content", "filename", "code"),
    [(b"", "adam.safetensors", "empty_file"), (b"x", "adam.pt", "unsafe_file")],
)
def test_an_optimizer_file_at_fault_is_pointed_at(
    service: Service, content: bytes, filename: str, code: str
) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    files = {"file": ("10.safetensors", b"tensors"), "optimizer_file": (filename, content)}
    answer = service.http.post(path, files=files, data={"step": "10", "learning_rate": "0.1"})
    assert pointers(problem(answer, 422, code)) == ["/optimizer_file"]


def test_the_same_key_with_another_optimizer_file_is_another_request(service: Service) -> None:
    path = f"/v1/trajectories/{service.trajectory()['id']}/checkpoints"
    data, key = {"step": "10", "learning_rate": "0.1"}, {"Idempotency-Key": f"k-{path}"}

    def post(state: bytes) -> httpx.Response:
        files = {"file": ("10.safetensors", b"tensors"), "optimizer_file": ("s.safetensors", state)}
        return service.http.post(path, files=files, data=data, headers=key)

    assert post(b"one").json()["id"] == post(b"one").json()["id"]
    problem(post(b"two"), 422, "idempotency_key_reused")
