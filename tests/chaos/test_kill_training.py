"""A worker killed with SIGKILL in the middle of training: the run is the same to the bit, and there once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from app.store.db import Database
from app.store.tables import TrainingState, Work
from tests import services, walk
from tests.chaos.processes import kill, worker_of
from tests.services import Service

SLOWLY = {"BLOCK_SECONDS": "0.02", "LEASE_SECONDS": "2"}  # many units: a kill hits the middle of the job


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with services.embedded(tmp_path_factory.mktemp("kills"), **SLOWLY) as service:
        yield service


COSINE = {"name": "cosine", "learning_rate": 0.01}


def submitted(
    client: httpx.Client,
    train: str,
    *,
    schedule: Mapping[str, Any] = COSINE,
    steps: int = 600,
    every: int = 60,
) -> str:
    """A training job by Adam in batches of 32."""
    body = {
        "type": "train",
        "architecture": {"name": "mlp", "config": walk.MLP},
        "task": {"type": "classification", "loss": "cross_entropy"},
        "train_dataset_id": train,
        "recipe": {
            "optimizer": {"name": "adam"},
            "schedule": dict(schedule),
            "batch_size": 32,
            "total_steps": steps,
        },
        "checkpoints": {"every": every},
    }
    job: str = walk.ok(client.post("/v1/jobs", json=body), 202)["id"]
    return job


def run_of(client: httpx.Client, job_id: str) -> dict[str, Any]:
    job = walk.finished(client, job_id)
    assert job["status"] == "succeeded", job
    run: dict[str, Any] = walk.ok(client.get(f"/v1/trajectories/{job['result']['trajectory_id']}"), 200)
    return run


@pytest.mark.slow
def test_a_killed_worker_changes_no_bit_of_the_run(service: Service) -> None:
    with service.client() as client:
        x, y = walk.digits()
        train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        expected = run_of(client, submitted(client, train))
        job_id = submitted(client, train)
        end = time.monotonic() + 60
        while True:
            progress = walk.ok(client.get(f"/v1/jobs/{job_id}"), 200)["progress"]
            assert time.monotonic() < end and progress["completed"] < 500, "too fast to be disturbed"
            if progress["completed"] > 60:
                break
            time.sleep(0.01)
        kill(worker_of(service.process.pid))
        run = run_of(client, job_id)
        for name in ("sha256", "step", "learning_rates"):
            assert [c[name] for c in run["checkpoints"]] == [c[name] for c in expected["checkpoints"]]
        files = [[c["optimizer_file"] for c in one["checkpoints"]] for one in (run, expected)]
        assert files[0] == files[1] and len(files[0]) == 11
        assert len(walk.ok(client.get("/v1/trajectories"), 200)["data"]) == 2
        told = walk.ok(client.get(f"/v1/jobs/{job_id}/events", params={"limit": 1000}), 200)["data"]
        story = [event["type"] for event in told if event["type"] != "job.progress"]
        assert story == ["job.queued", "job.started", "job.succeeded"]

    database = Database(f"sqlite:///{service.data_dir / 'diffin.db'}")
    with database.snapshot() as session:  # nothing is left of the states on the way
        for table in (TrainingState, Work):
            assert session.execute(select(func.count()).select_from(table)).scalar_one() == 0
    database.engine.dispose()
