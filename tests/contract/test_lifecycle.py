"""A job's whole life over HTTP, on the embedded service and on PostgreSQL with Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests import walk
from tests.services import Service


@pytest.fixture(params=["embedded_service", "production_service"], ids=["embedded", "production"])
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    service: Service = request.getfixturevalue(request.param)
    with service.client() as client:
        yield client


@pytest.fixture
def ask(client: httpx.Client) -> dict[str, Any]:
    """A run and its data, ready to be asked about."""
    x, y = walk.digits(300)
    ids = np.array([f"digit-{i}" for i in range(300)])
    return {
        "trajectory_id": walk.run(client),
        "train": walk.dataset(client, walk.npz(inputs=x, targets=y, ids=ids))["id"],
        "query": walk.dataset(client, walk.npz(inputs=x[:50], targets=y[:50]))["id"],
    }


def submitted(client: httpx.Client, ask: dict[str, Any], **fields: Any) -> dict[str, Any]:
    job: dict[str, Any] = walk.ok(walk.post_job(client, **ask, **fields), 202)
    return job


def test_from_upload_to_the_most_harmful_samples(client: httpx.Client, ask: dict[str, Any]) -> None:
    job = walk.finished(client, submitted(client, ask, name="what hurts?", metadata={"git": "abc"})["id"])
    assert job["status"] == "succeeded", job["error"]
    assert job["result"]["num_samples"] == 300
    assert job["result"]["answers"] == "expected"
    assert job["progress"]["completed"] == job["progress"]["total"] > 0
    assert job["metadata"] == {"git": "abc"}
    rows = walk.scores(client, job["id"], "harmful")
    assert [row["rank"] for row in rows] == list(range(1, 301))
    assert rows[0]["percentile"] == 100
    assert all(row["agrees"] == (row["label"] == row["predicted_label"]) for row in rows)
    top = rows[0]
    assert top["sample_id"] == f"digit-{top['sample_index']}"
    one = walk.ok(client.get(f"/v1/jobs/{job['id']}/scores/{top['sample_index']}"), 200)
    assert [part["step"] for part in one["contributions"]] == [10, 20, 30]
    assert sum(part["contribution"] for part in one["contributions"]) == pytest.approx(
        top["score"], rel=1e-12
    )
    summary = walk.ok(client.get(f"/v1/jobs/{job['id']}/summary"), 200)
    assert summary["count"] == sum(summary["histogram"]["counts"]) == 300
    assert sum(row["count"] for row in summary["by_class"]) == 300


def test_the_score_page_filters_by_label(client: httpx.Client, ask: dict[str, Any]) -> None:
    job = walk.finished(client, submitted(client, ask, method={"name": "tracin"})["id"])
    path = f"/v1/jobs/{job['id']}/scores"
    rows = walk.ok(client.get(path, params={"label": 3, "order": "harmful", "min": 0}), 200)["data"]
    assert rows and all(row["label"] == 3 and row["score"] >= 0 for row in rows)
    assert walk.ok(client.get(path, params={"order": "self_influence"}), 409)["code"] == "not_computed"


def test_the_same_question_twice_gives_the_same_bits(client: httpx.Client, ask: dict[str, Any]) -> None:
    jobs = [walk.finished(client, submitted(client, ask, seed=7)["id"]) for _ in range(2)]
    first, again = (walk.scores(client, job["id"]) for job in jobs)
    assert first == again


def test_the_event_stream_tells_the_whole_story(client: httpx.Client, ask: dict[str, Any]) -> None:
    job = submitted(client, ask)
    streamed = walk.sse(client, f"/v1/jobs/{job['id']}/events")
    kinds = [event["event"] for event in streamed if event["event"] != "job.progress"]
    assert kinds == ["job.queued", "job.started", "job.succeeded"]
    resumed = walk.sse(client, f"/v1/jobs/{job['id']}/events", **{"Last-Event-ID": streamed[0]["id"]})
    assert [event["event"] for event in resumed][-1] == "job.succeeded"
    assert "job.queued" not in [event["event"] for event in resumed]


def test_a_job_can_be_polled_cheaply(client: httpx.Client, ask: dict[str, Any]) -> None:
    job = submitted(client, ask)
    path = f"/v1/jobs/{job['id']}"
    walk.finished(client, job["id"])
    done = client.get(path)
    assert "retry-after" not in done.headers
    assert client.get(path, headers={"If-None-Match": done.headers["etag"]}).status_code == 304


def test_cancelling_stops_a_running_job(client: httpx.Client, ask: dict[str, Any]) -> None:
    slow = {"name": "diff_in", "hessian_samples": None, "lanczos_steps": 1000, "clamp": True}
    job = submitted(client, ask, method=slow)
    walk.until(client, f"/v1/jobs/{job['id']}", {"running", "succeeded"})
    assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code in (200, 202)
    assert walk.finished(client, job["id"])["status"] == "cancelled"
    assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    assert walk.ok(client.get(f"/v1/jobs/{job['id']}/scores"), 409)["code"]
    assert walk.events(client, job["id"])[-1] == "job.cancelled"
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_what_a_job_names_cannot_be_deleted_under_it(client: httpx.Client, ask: dict[str, Any]) -> None:
    job = walk.finished(client, submitted(client, ask, method={"name": "loss"})["id"])
    for path in (f"/v1/datasets/{ask['train']}", f"/v1/trajectories/{ask['trajectory_id']}"):
        assert walk.ok(client.delete(path), 409)["code"] == "in_use"
    assert walk.ok(client.post(f"/v1/jobs/{job['id']}/cancel"), 409)["code"]
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    for path in (f"/v1/datasets/{ask['train']}", f"/v1/trajectories/{ask['trajectory_id']}"):
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404


def test_a_repeated_post_with_its_key_makes_one_job(client: httpx.Client, ask: dict[str, Any]) -> None:
    key = {"Idempotency-Key": f"once-{time.time_ns()}"}
    body = {"type": "influence", "trajectory_id": ask["trajectory_id"], "train_dataset_id": ask["train"],
            "query_dataset_id": ask["query"], "method": {"name": "loss"}}  # fmt: skip
    first, again = (client.post("/v1/jobs", json=body, headers=key) for _ in range(2))
    assert walk.ok(first, 202) == walk.ok(again, 202)
    assert first.headers["location"] == again.headers["location"]


def test_a_query_can_be_part_of_its_data_set(client: httpx.Client, ask: dict[str, Any]) -> None:
    """Asking by labels and by the indices of those labels is the same question."""
    y = walk.digits(300)[1]
    indices = [int(i) for i in np.flatnonzero(np.isin(y[:50], [2, 5]))]
    by_label = submitted(client, ask, method={"name": "tracin"}, selection={"labels": [2, 5]})
    by_index = submitted(client, ask, method={"name": "tracin"}, selection={"indices": indices})
    first, second = (walk.finished(client, job["id"]) for job in (by_label, by_index))
    assert walk.scores(client, first["id"]) == walk.scores(client, second["id"])


def test_the_estimate_counts_what_the_job_then_does(client: httpx.Client, ask: dict[str, Any]) -> None:
    body = {"type": "influence", "trajectory_id": ask["trajectory_id"], "train_dataset_id": ask["train"],
            "query_dataset_id": ask["query"], "method": {"name": "diff_in"}}  # fmt: skip
    estimate = walk.ok(client.post("/v1/jobs/estimate", json=body), 200)
    job = walk.finished(client, submitted(client, ask)["id"])
    assert estimate["forward_passes"] == job["progress"]["total"]
    assert walk.ok(client.post("/v1/jobs/estimate", json=body), 200)["seconds"] > 0
