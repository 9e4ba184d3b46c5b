"""Selections over HTTP before a worker has seen them: what is asked, refused, listed and deleted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.api.selections import admission
from tests.api.front_end import N, Service, pages, pointers, problem, request_of, scored

COLUMNS = scored(2) | {"suspicion": np.linspace(0, 1, N), "sample_id": np.array([f"s-{i}" for i in range(N)])}


@pytest.fixture
def path(service: Service, inputs: dict[str, str]) -> str:
    """Where selections of a job that succeeded are made."""
    method = {"name": "diff_in"}
    job = service.http.post("/v1/jobs", json=request_of(inputs, method=method)).json()
    service.succeed(job["id"], COLUMNS, suspicion=True)
    return f"/v1/jobs/{job['id']}/selections"


def created(service: Service, path: str, **body: Any) -> dict[str, Any]:
    answer = service.http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/selections/{found['id']}"
    assert service.http.get(answer.headers["location"]).json() == found
    return found


def test_one_is_queued_with_what_was_asked(service: Service, path: str) -> None:
    found = created(service, path, type="clean", fraction=0.25, name="a quarter", metadata={"a": "b"})
    assert found["id"].startswith("sel_") and found["job_id"] in path
    assert (found["type"], found["status"], found["size"]) == ("clean", "queued", 3)
    assert (found["name"], found["metadata"], found["num_samples"]) == ("a quarter", {"a": "b"}, N)
    assert found["request"]["by"] == "suspicion" and found["request"]["fraction"] == 0.25
    assert found["result"] is None and found["error"] is None


def test_sizes_are_told_before(service: Service, path: str) -> None:
    scores = COLUMNS["score"]
    assert created(service, path, type="clean", size=2)["size"] == 2
    assert created(service, path, type="clean", auto=True)["size"] is None
    by_score = created(service, path, type="clean", threshold=0.5)
    assert (by_score["size"], by_score["request"]["by"]) == ((scores >= 0.5).sum(), "score")
    assert created(service, path, type="clean", threshold=0.9, by="suspicion")["size"] == 2
    assert created(service, path, type="clean", threshold=99.0)["size"] == 0
    assert created(service, path, type="coreset", fraction=0.5)["size"] == 6
    assert created(service, path, type="deletion", sample_ids=["s-3", "s-1"])["size"] == 2
    asked = created(service, path, type="deletion", sample_indices=[4], resolution="tail")["request"]
    assert asked["update"]["resolution"] == "tail" and "sample_indices" not in asked


@pytest.mark.parametrize(
    "body",
    [
        {"type": "clean"},
        {"type": "clean", "size": 1, "fraction": 0.1},
        {"type": "clean", "auto": False},
        {"type": "clean", "auto": True, "size": 1},
        {"type": "clean", "size": 0},
        {"type": "clean", "fraction": 0},
        {"type": "clean", "fraction": 1.5},
        {"type": "clean", "size": 1, "by": "luck"},
        {"type": "coreset"},
        {"type": "coreset", "threshold": 1.0},
        {"type": "deletion"},
        {"type": "deletion", "sample_indices": []},
        {"type": "deletion", "sample_indices": [1, 1]},
        {"type": "deletion", "sample_indices": [-1]},
        {"type": "deletion", "sample_indices": [1], "sample_ids": ["s-1"]},
        {"type": "burn"},
    ],
)
def test_what_makes_no_sense_is_refused(service: Service, path: str, body: dict[str, Any]) -> None:
    problem(service.http.post(path, json=body), 422, "validation_error")


def test_what_is_not_there_is_named(service: Service, path: str) -> None:
    def refused(code: str, words: str, pointer: str | None, **body: Any) -> None:
        found = problem(service.http.post(path, json=body), 422, code)
        assert words in found["detail"]
        assert pointers(found) == ([pointer] if pointer else [])

    refused("too_many_samples", "12 samples", "/size", type="clean", size=13)
    refused("index_out_of_range", "[12]", "/sample_indices", type="deletion", sample_indices=[3, 12])
    refused("unknown_sample", "'s-12'", "/sample_ids", type="deletion", sample_ids=["s-3", "s-12"])
    refused("nothing_left", "nothing would be left", None, type="deletion", sample_indices=list(range(N)))


def test_a_coreset_covers_classes(service: Service, path: str) -> None:
    asked = created(service, path, type="coreset", size=2)["request"]
    assert (asked["by"], asked["stratify"], asked["drop_suspects"]) == ("coverage", True, True)
    drawn = created(service, path, type="coreset", size=2, by="random")["request"]
    assert (drawn["by"], drawn["drop_suspects"]) == ("random", False)


def test_a_coreset_of_more_than_can_be_compared_is_drawn(
    service: Service, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "COMPARED", N - 1)
    assert created(service, path, type="coreset", size=2)["request"]["by"] == "influence"
    answer = service.http.post(path, json={"type": "coreset", "size": 2, "by": "coverage"})
    assert pointers(problem(answer, 422, "too_many_samples")) == ["/by"]


@pytest.mark.parametrize(("task", "loss"), [("regression", "mse"), ("binary", "bce_with_logits")])
def test_a_coreset_without_classes_is_drawn(service: Service, task: str, loss: str) -> None:
    run = service.trajectory(
        architecture={"name": "linear", "config": {"in_features": 4, "num_classes": 1}},
        task={"type": task, "loss": loss},
    )["id"]
    service.accept(service.checkpoint(run, 10)["id"])
    dataset = service.upload()["id"]
    targets = np.linspace(0.1, 0.9, N, dtype=np.float32)  # soft ones, where the task is binary
    service.validate(dataset, targets=targets)
    sets = {"train_dataset_id": dataset, "query_dataset_id": dataset}
    job = service.http.post("/v1/jobs", json=request_of(sets, trajectory_id=run)).json()
    service.succeed(job["id"], scored(1) | {"label": targets.astype(np.float64)}, suspicion=True)
    path = f"/v1/jobs/{job['id']}/selections"
    asked = created(service, path, type="coreset", size=2)["request"]
    assert (asked["by"], asked["stratify"], asked["drop_suspects"]) == ("influence", False, False)
    answer = service.http.post(path, json={"type": "coreset", "size": 2, "by": "coverage"})
    assert pointers(problem(answer, 422, "no_classes")) == ["/by"]


def test_a_job_without_suspicion_is_cleaned_by_score(service: Service, job: dict[str, Any]) -> None:
    service.succeed(job["id"], scored(2))
    path = f"/v1/jobs/{job['id']}/selections"
    assert created(service, path, type="clean", size=2)["request"]["by"] == "score"
    body = {"type": "clean", "size": 2, "by": "suspicion"}
    assert pointers(problem(service.http.post(path, json=body), 409, "not_computed")) == ["/by"]


def test_only_changes_of_the_query_loss_tell_of_a_deletion(service: Service, inputs: dict[str, str]) -> None:
    body = request_of({k: v for k, v in inputs.items() if k != "query_dataset_id"}, method={"name": "loss"})
    job = service.http.post("/v1/jobs", json=body).json()
    service.succeed(job["id"], scored(2))
    asked = {"type": "deletion", "sample_indices": [1]}
    answer = service.http.post(f"/v1/jobs/{job['id']}/selections", json=asked)
    assert "diff_in" in problem(answer, 422, "unsuitable_method")["detail"]


def test_what_can_not_be_trained_again_is_not_verified(
    service: Service, path: str, inputs: dict[str, str]
) -> None:
    body = {"type": "clean", "size": 1, "verify": True}
    found = problem(service.http.post(path, json=body), 422, "recipe_required")
    assert pointers(found) == ["/verify"] and "has no recipe" in found["detail"]
    asked = request_of({k: v for k, v in inputs.items() if k != "query_dataset_id"}, method={"name": "loss"})
    job = service.http.post("/v1/jobs", json=asked).json()
    service.succeed(job["id"], scored(2))
    answer = service.http.post(f"/v1/jobs/{job['id']}/selections", json=body)
    assert pointers(problem(answer, 422, "query_required")) == ["/verify"]


def test_a_checkpoint_that_can_not_be_updated_is_not(service: Service, inputs: dict[str, str]) -> None:
    run = service.trajectory(optimizer={"name": "adam"})["id"]
    service.accept(service.checkpoint(run, 10)["id"])
    asked = request_of(inputs | {"trajectory_id": run}, method={"name": "diff_in"})
    job = service.http.post("/v1/jobs", json=asked).json()
    service.succeed(job["id"], scored(1))
    path = f"/v1/jobs/{job['id']}/selections"
    found = created(service, path, type="deletion", sample_indices=[1])
    assert found["request"]["update"] is None and "exp_avg_sq" in found["request"]["no_update"]
    body = {"type": "deletion", "sample_indices": [1], "checkpoint": True}
    assert pointers(problem(service.http.post(path, json=body), 422, "no_update")) == ["/checkpoint"]


def test_a_checkpoint_whose_update_would_not_fit_into_memory_is_not_updated(
    service: Service, inputs: dict[str, str]
) -> None:
    run = service.trajectory()["id"]
    service.accept(service.checkpoint(run, 10)["id"], parameters=["w"], shapes=[[9000, 9000]])  # 0.3 GB
    asked = request_of(inputs | {"trajectory_id": run}, method={"name": "tracin"})  # keeps no Krylov space
    job = service.http.post("/v1/jobs", json=asked).json()
    service.succeed(job["id"], scored(1))
    found = created(service, f"/v1/jobs/{job['id']}/selections", type="deletion", sample_indices=[1])
    assert found["request"]["update"] is None
    assert "lower lanczos_steps" in found["request"]["no_update"]


def test_they_wait_for_the_jobs_success(service: Service, job: dict[str, Any]) -> None:
    answer = service.http.post(f"/v1/jobs/{job['id']}/selections", json={"type": "clean", "size": 1})
    problem(answer, 409, "job_not_finished")
    problem(
        service.http.post("/v1/jobs/job_0/selections", json={"type": "clean", "size": 1}), 404, "not_found"
    )


def test_samples_wait_for_the_selections_success(service: Service, path: str) -> None:
    selection = created(service, path, type="clean", size=1)["id"]
    for part in ("samples", "manifest"):
        answer = service.http.get(f"/v1/selections/{selection}/{part}")
        problem(answer, 409, "selection_not_finished")
        assert answer.headers["retry-after"] == "1"


def test_they_are_listed_newest_first_and_filtered(service: Service, path: str) -> None:
    first = created(service, path, type="clean", size=1)["id"]
    second = created(service, path, type="coreset", size=1)["id"]
    job_id = path.split("/")[3]

    def listed(**query: Any) -> list[str]:
        return [row["id"] for row in pages(service.http, "/v1/selections", limit=1, **query)]

    assert listed() == listed(job_id=job_id) == listed(status="queued") == [second, first]
    assert listed(type="clean") == [first]
    assert listed(job_id="job_0") == listed(status="failed") == []
    cursor = service.http.get("/v1/selections?limit=1").json()["next_cursor"]
    problem(service.http.get(f"/v1/selections?type=clean&cursor={cursor}"), 400, "invalid_cursor")


def test_one_is_renamed_and_deleted_and_gone_with_its_job(service: Service, path: str) -> None:
    first, second = (created(service, path, type="clean", size=1)["id"] for _ in range(2))
    assert service.http.patch(f"/v1/selections/{first}", json={"name": "x"}).json()["name"] == "x"
    assert service.http.delete(f"/v1/selections/{first}").status_code == 204
    problem(service.http.get(f"/v1/selections/{first}"), 404, "not_found")
    assert service.http.delete(path.removesuffix("/selections")).status_code == 204
    problem(service.http.get(f"/v1/selections/{second}"), 404, "not_found")


def test_another_projects_are_not_there(service: Service, path: str) -> None:
    selection = created(service, path, type="clean", size=1)["id"]
    stranger = service.make_key("a stranger's", "admin", project_id="another")
    for part in ("", "/samples", "/manifest"):
        answer = service.http.get(f"/v1/selections/{selection}{part}", headers=stranger)
        problem(answer, 404, "not_found")


def test_the_same_post_makes_one(service: Service, path: str) -> None:
    body, key = {"type": "clean", "size": 1}, {"Idempotency-Key": "once"}
    first, again = (service.http.post(path, json=body, headers=key).json() for _ in range(2))
    assert first == again
    assert len(pages(service.http, "/v1/selections")) == 1
