"""Two jobs held against each other over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from app.store.scores import ranks
from tests.api.front_end import N, Service, pointers, problem, request_of, scored

SCORES = np.sin(np.arange(N) * 7.0)


def succeeded(service: Service, inputs: dict[str, str], scores: Any) -> str:
    """The id of a job that gave the samples these scores."""
    job_id: str = service.http.post("/v1/jobs", json=request_of(inputs)).json()["id"]
    columns = scored(2) | {"score": np.asarray(scores), "rank": ranks(np.asarray(scores))}
    service.succeed(job_id, columns)
    return job_id


def test_jobs_over_the_same_samples_are_compared(service: Service, inputs: dict[str, str]) -> None:
    theirs = SCORES + 0.5 * np.cos(np.arange(N))
    mine, other = (succeeded(service, inputs, one) for one in (SCORES, theirs))
    answer = service.http.get(f"/v1/jobs/{mine}/compare", params={"with": other, "k": [3, 12]})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["job_id"], body["with"], body["num_samples"]) == (mine, other, N)
    assert body["spearman"] == pytest.approx(spearmanr(SCORES, theirs).statistic)
    assert body["kendall"] == pytest.approx(kendalltau(SCORES, theirs).statistic)
    both = set(np.argsort(-SCORES)[:3]) & set(np.argsort(-theirs)[:3])
    assert body["top"][0]["harmful"] == pytest.approx(len(both) / 3)
    assert body["top"][1] == {"k": 12, "harmful": 1, "helpful": 1}
    tag = {"If-None-Match": answer.headers["etag"]}
    again = service.http.get(f"/v1/jobs/{mine}/compare", params={"with": other, "k": [3, 12]}, headers=tag)
    assert again.status_code == 304


def test_a_job_agrees_with_itself(service: Service, inputs: dict[str, str]) -> None:
    mine = succeeded(service, inputs, SCORES)
    body = service.http.get(f"/v1/jobs/{mine}/compare?with={mine}").json()
    assert (body["spearman"], body["kendall"]) == (1, 1)
    assert body["top"] == [{"k": 10, "harmful": 1, "helpful": 1}]


def test_jobs_wait_for_both_to_succeed(service: Service, inputs: dict[str, str], job: dict[str, Any]) -> None:
    mine = succeeded(service, inputs, SCORES)
    for first, second in ((mine, job["id"]), (job["id"], mine)):
        answer = service.http.get(f"/v1/jobs/{first}/compare?with={second}")
        assert job["id"] in problem(answer, 409, "job_not_finished")["detail"]
    answer = service.http.get(f"/v1/jobs/{mine}/compare?with=job_1")
    assert pointers(problem(answer, 404, "not_found")) == ["query:with"]
    problem(service.http.get(f"/v1/jobs/{mine}/compare"), 422, "validation_error")


def test_jobs_over_other_samples_are_not_compared(service: Service, inputs: dict[str, str]) -> None:
    mine = succeeded(service, inputs, SCORES)
    again, other = service.upload()["id"], service.upload(np.zeros((N, 4), np.float32))["id"]
    service.validate(again)
    service.validate(other, np.zeros((N, 4), np.float32))
    same = succeeded(service, inputs | {"train_dataset_id": again}, SCORES)
    answer = service.http.get(f"/v1/jobs/{mine}/compare?with={same}")
    assert answer.json()["spearman"] == 1  # the same file, uploaded twice
    theirs = succeeded(service, inputs | {"train_dataset_id": other}, SCORES)
    found = problem(service.http.get(f"/v1/jobs/{mine}/compare?with={theirs}"), 422, "data_sets_differ")
    assert pointers(found) == ["query:with"]
    assert other in found["detail"] and inputs["train_dataset_id"] in found["detail"]


def test_a_top_larger_than_the_data_is_refused(service: Service, inputs: dict[str, str]) -> None:
    mine = succeeded(service, inputs, SCORES)
    answer = service.http.get(f"/v1/jobs/{mine}/compare?with={mine}&k=13")
    assert "12 samples" in problem(answer, 422, "validation_error")["detail"]


def test_a_resource_is_edited_only_if_it_is_the_version_known(
    service: Service, inputs: dict[str, str], job: dict[str, Any]
) -> None:
    done = succeeded(service, inputs, SCORES)
    export = service.http.post("/v1/exports", json={"job_id": done, "format": "csv"}).json()
    paths = [
        f"/v1/datasets/{inputs['train_dataset_id']}",
        f"/v1/trajectories/{inputs['trajectory_id']}",
        f"/v1/jobs/{job['id']}",
        f"/v1/exports/{export['id']}",
    ]
    for path in paths:
        known = service.http.get(path).headers["etag"]
        changed = service.http.patch(path, json={"name": "first"}, headers={"If-Match": known})
        assert (changed.status_code, changed.json()["name"]) == (200, "first"), path
        answer = service.http.patch(path, json={"name": "second"}, headers={"If-Match": known})
        assert pointers(problem(answer, 412, "precondition_failed")) == ["header:if-match"]
        read = service.http.get(path)
        assert read.json()["name"] == "first"
        assert read.headers["etag"] == changed.headers["etag"]
        for header in ({"If-Match": "*"}, {}):
            assert service.http.patch(path, json={"notes": "n"}, headers=header).json()["notes"] == "n"
