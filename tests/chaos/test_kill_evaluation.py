"""A worker killed while it retrains: the evaluation ends as if nothing had happened, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import services, walk
from tests.chaos.processes import kill, worker_of
from tests.chaos.test_kill import STORY, wait_for_the_middle

RECIPE: dict[str, Any] = {
    "schedule": {"name": "constant", "learning_rate": 0.1},
    "batch_size": 30,
    "epochs": 12,
    "seed": 5,
}


def asked(client: httpx.Client) -> dict[str, Any]:
    """A question over a run that the service trained, which takes a while."""
    x, y = walk.digits(300)
    train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    task = {"type": "classification", "loss": "cross_entropy"}
    body = {"type": "train", "architecture": {"name": "mlp", "config": walk.MLP}, "task": task}
    body |= {"train_dataset_id": train, "recipe": RECIPE}
    job = walk.finished(client, walk.ok(client.post("/v1/jobs", json=body), 202)["id"])
    data = {"train_dataset_id": train, "query_dataset_id": train}
    run = {"trajectory_id": job["result"]["trajectory_id"]}
    return {"type": "evaluate", "leave_one_out": 60, "subsets": 30, "sampling": "mixed"} | run | data


def found(client: httpx.Client, job_id: str) -> tuple[dict[str, Any], Any]:
    job = walk.finished(client, job_id)
    assert job["status"] == "succeeded", job
    assert [event for event in walk.events(client, job_id) if event != "job.progress"] == STORY
    result = {name: value for name, value in job["result"].items() if name != "timing"}
    return result, walk.ok(client.get(f"/v1/jobs/{job_id}/evaluation"), 200)


@pytest.mark.slow
def test_a_killed_evaluation_finds_the_same(tmp_path: Path) -> None:
    with services.embedded(tmp_path, LEASE_SECONDS="1") as service, service.client() as client:
        question = asked(client)
        expected = found(client, walk.ok(client.post("/v1/jobs", json=question), 202)["id"])
        job_id = walk.ok(client.post("/v1/jobs", json=question), 202)["id"]
        wait_for_the_middle(client, job_id, 0)
        kill(worker_of(service.process.pid))
        assert found(client, job_id) == expected
