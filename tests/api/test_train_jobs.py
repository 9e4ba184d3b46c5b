"""Jobs of type `train` at the front end: what is refused before anything is queued, and what is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.store import jobs
from app.store.tables import Job
from tests.api.front_end import RUN, Service, pointers, problem, request_of

RECIPE = {"schedule": {"name": "constant", "learning_rate": 0.1}, "batch_size": 5, "epochs": 2}
WARM = {"name": "cosine", "learning_rate": 0.1}


@pytest.fixture
def train_id(service: Service) -> str:
    """A ready data set: 12 samples of 4 numbers, 3 classes."""
    dataset_id: str = service.upload()["id"]
    service.validate(dataset_id)
    return dataset_id


def body_of(train_id: str, **changes: Any) -> dict[str, Any]:
    body = {
        "type": "train",
        "architecture": RUN["architecture"],
        "task": RUN["task"],
        "train_dataset_id": train_id,
        "recipe": RECIPE,
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def queued(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_job_tells_what_it_will_do_defaults_filled_in(service: Service, train_id: str) -> None:
    body = queued(service, body_of(train_id, checkpoints={"count": 2}, name="mine"))
    assert (body["type"], body["status"], body["total_steps"]) == ("train", "queued", 6)
    assert body["checkpoints"] == [0, 3, 6]
    assert body["recipe"]["optimizer"]["name"] == "sgd" and body["recipe"]["seed"] == 0
    assert (body["trajectory_id"], body["seed"], body["result"]) == (None, None, None)
    assert body["progress"]["unit"] == "steps"
    assert service.http.get(f"/v1/jobs/{body['id']}").json() == body


@pytest.mark.parametrize(
    ("checkpoints", "kept"),
    [
        ({"count": 1}, [0, 6]),
        ({"count": 100}, [0, 1, 2, 3, 4, 5, 6]),
        ({"every": 1}, [0, 1, 2, 3, 4, 5, 6]),
        ({"every": 4}, [0, 4, 6]),
        ({"steps": [5, 2, 2]}, [0, 2, 5, 6]),
    ],
)
def test_the_first_and_the_last_state_are_always_kept(
    service: Service, train_id: str, checkpoints: dict[str, Any], kept: list[int]
) -> None:
    assert queued(service, body_of(train_id, checkpoints=checkpoints))["checkpoints"] == kept


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"architecture": {"name": "magic", "config": {}}}, "/architecture", "unknown_architecture"),
        ({"architecture": {"name": "onnx"}}, "/architecture", "validation_error"),
        ({"task": {"type": "causal_lm", "loss": "cross_entropy"}}, "/task", "validation_error"),
        ({"architecture": None}, "", "validation_error"),
        ({"recipe": None}, "", "validation_error"),
        ({"recipe": {"batch_size": 5, "epochs": 2}}, "", "validation_error"),
        ({"recipe": RECIPE | {"batch_size": 0}}, "/recipe/batch_size", "validation_error"),
        ({"recipe": RECIPE | {"batch_size": 13, "drop_last": True}}, "/recipe/batch_size", "batch_too_large"),
        ({"recipe": RECIPE | {"epochs": 10_000_000}}, "/recipe", "too_many_steps"),
        (
            {"recipe": RECIPE | {"schedule": WARM | {"warmup_steps": 7}}},
            "/recipe/schedule/warmup_steps",
            "warmup_too_long",
        ),
        ({"checkpoints": {}}, "/checkpoints", "validation_error"),
        ({"checkpoints": {"count": 2, "every": 3}}, "/checkpoints", "validation_error"),
        ({"checkpoints": {"steps": [7]}}, "/checkpoints/steps", "step_out_of_range"),
        ({"train_dataset_id": "ds_other"}, "/train_dataset_id", "not_found"),
        ({"query_dataset_id": "ds_other"}, "/query_dataset_id", "not_found"),
        ({"trajectory_id": "tr_other"}, "", "validation_error"),
        (
            {"architecture": {"name": "linear", "config": {"in_features": 5, "num_classes": 3}}},
            "/train_dataset_id",
            "shape_mismatch",
        ),
        (
            {"architecture": {"name": "linear", "config": {"in_features": 4, "num_classes": 2}}},
            "/train_dataset_id",
            "label_out_of_range",
        ),
        ({"method": {"name": "diff_in"}}, "/method", "validation_error"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_field_at_fault(
    service: Service, train_id: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    answer = service.http.post("/v1/jobs", json=body_of(train_id, **changes))
    assert pointer in pointers(problem(answer, 404 if code == "not_found" else 422, code))


def test_a_warm_up_may_take_the_whole_run(service: Service, train_id: str) -> None:
    body = queued(service, body_of(train_id, recipe=RECIPE | {"schedule": WARM | {"warmup_steps": 6}}))
    assert body["total_steps"] == 6


@pytest.mark.parametrize("checkpoints", [10**9, [1, 2], "all"])
def test_what_is_kept_is_told_by_an_object(service: Service, train_id: str, checkpoints: Any) -> None:
    answer = service.http.post("/v1/jobs", json=body_of(train_id, checkpoints=checkpoints))
    body = problem(answer, 422, "validation_error")
    assert pointers(body) == ["/checkpoints"]
    assert all(word in body["detail"] for word in ('"count"', '"every"', '"steps"'))


def test_too_many_checkpoints_are_refused(service: Service, train_id: str) -> None:
    body = body_of(train_id, recipe=RECIPE | {"epochs": 2000}, checkpoints={"every": 1})
    assert (
        "5,000 at most"
        in problem(service.http.post("/v1/jobs", json=body), 422, "too_many_checkpoints")["detail"]
    )


def test_inputs_that_are_not_ready_are_waited_for(service: Service) -> None:
    validating = service.upload()["id"]
    answer = service.http.post("/v1/jobs", json=body_of(validating))
    problem(answer, 409, "input_not_ready")
    assert answer.headers["retry-after"]


def test_query_samples_of_another_shape_are_refused(service: Service, train_id: str) -> None:
    other = np.zeros((3, 2, 2), dtype=np.float32)
    query_id = service.upload(other)["id"]
    service.validate(query_id, other)
    answer = service.http.post("/v1/jobs", json=body_of(train_id, query_dataset_id=query_id))
    problem(answer, 422, "shape_mismatch")


def told_by(service: Service, train_id: str, trajectory: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The body of a job told by a trajectory."""
    return {"type": "train", "trajectory_id": trajectory["id"], "train_dataset_id": train_id} | changes


def test_a_trajectory_tells_network_recipe_and_optimizer(service: Service, train_id: str) -> None:
    adam = {"name": "adam", "weight_decay": 0.1}
    run = service.trajectory(recipe=RECIPE | {"seed": 3}, optimizer=adam)
    body = queued(service, told_by(service, train_id, run))
    assert body["architecture"] == run["architecture"] and body["trajectory_id"] == run["id"]
    assert body["recipe"]["seed"] == 3 and body["recipe"]["optimizer"]["name"] == "adam"
    own = queued(service, told_by(service, train_id, run, recipe=RECIPE | {"optimizer": {"name": "adamw"}}))
    assert own["recipe"]["optimizer"]["name"] == "adamw" and own["recipe"]["seed"] == 0
    over = service.http.get("/v1/jobs", params={"trajectory_id": run["id"], "type": "train"}).json()["data"]
    assert [one["id"] for one in over] == [own["id"], body["id"]]
    assert service.http.get("/v1/jobs", params={"type": "influence"}).json()["data"] == []
    problem(service.http.delete(f"/v1/trajectories/{run['id']}"), 409, "in_use")


def test_a_trajectory_that_tells_too_little_is_refused(service: Service, train_id: str) -> None:
    bare, short = service.trajectory(), service.trajectory(recipe={"batch_size": 5, "epochs": 2})
    answer = service.http.post("/v1/jobs", json=told_by(service, train_id, bare))
    assert pointers(problem(answer, 422, "recipe_required")) == ["/recipe"]
    answer = service.http.post("/v1/jobs", json=told_by(service, train_id, short))
    assert pointers(problem(answer, 422, "schedule_required")) == ["/recipe/schedule"]
    answer = service.http.post("/v1/jobs", json=told_by(service, train_id, short, task=RUN["task"]))
    assert "the trajectory tells task" in problem(answer, 422, "validation_error")["detail"]


def test_a_trajectory_whose_checkpoints_are_not_read_yet_is_waited_for(
    service: Service, train_id: str
) -> None:
    run = service.trajectory(recipe=RECIPE)
    service.checkpoint(run["id"], 3)
    answer = service.http.post("/v1/jobs", json=told_by(service, train_id, run))
    assert pointers(problem(answer, 409, "input_not_ready")) == ["/trajectory_id"]


def test_the_rates_of_checkpoints_that_reach_far_enough_are_followed(service: Service, train_id: str) -> None:
    run = service.trajectory(recipe={"batch_size": 5, "epochs": 2})
    for step in (3, 6):
        service.accept(service.checkpoint(run["id"], step)["id"])
    body = queued(service, told_by(service, train_id, run))
    with service.database.snapshot() as session:
        assert len(session.get_one(Job, body["id"]).checkpoint_ids) == 2  # which nobody may delete now


def test_training_is_estimated_from_the_last_of_its_network(service: Service, train_id: str) -> None:
    def estimate(**changes: Any) -> dict[str, Any]:
        answer = service.http.post("/v1/jobs/estimate", json=body_of(train_id, **changes))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    passes = 2 * 12 * 3 + 12  # two epochs of gradients, and a look at what was learned
    first = estimate()
    assert (first["forward_passes"], first["seconds"], first["basis"]) == (passes, None, None)
    assert first["memory_bytes"] > service.settings.memory_bytes
    done = queued(service, body_of(train_id))
    with service.database.transaction() as session:
        job = session.get_one(Job, done["id"])
        jobs.start(session, job, 1)
        timing = {"seconds": 3.0, "forward_passes": 2 * passes, "device": "cpu"}
        jobs.succeed(session, service.blobs, job, {"timing": timing})
    assert (estimate()["seconds"], estimate()["basis"]) == (1.5, "architecture")
    linear = {"name": "linear", "config": {"in_features": 4, "num_classes": 3}}
    assert estimate(architecture=linear)["seconds"] is None


def test_an_influence_job_is_not_estimated_from_training(service: Service, inputs: dict[str, str]) -> None:
    done = queued(service, body_of(inputs["train_dataset_id"]))
    with service.database.transaction() as session:
        job = session.get_one(Job, done["id"])
        jobs.start(session, job, 1)
        timing = {"seconds": 3.0, "forward_passes": 100, "device": "cpu"}
        jobs.succeed(session, service.blobs, job, {"timing": timing})
    answer = service.http.post("/v1/jobs/estimate", json=request_of(inputs)).json()
    assert answer["seconds"] is None
