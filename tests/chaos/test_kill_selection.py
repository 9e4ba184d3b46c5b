"""A worker killed while it updates a checkpoint or retrains: the selection is the same to the bit."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import httpx
import pytest
from sqlalchemy import Select, func, select

from app.store.db import Database
from app.store.tables import Work
from tests import walk
from tests.chaos.processes import kill, worker_of
from tests.services import Service

RECIPE: dict[str, Any] = {
    "schedule": {"name": "constant", "learning_rate": 0.1},
    "batch_size": 10,
    "epochs": 20,
    "seed": 5,
}
ASKED = {
    "type": "deletion",
    "sample_indices": [3, 7, 31, 58],
    "resolution": "steps",
    "verify": True,
    "seeds": 2,
}


class Outcome(NamedTuple):
    """All that a client sees of a selection."""

    result: dict[str, Any]
    samples: list[dict[str, Any]]
    checkpoint: bytes


def scored(client: httpx.Client) -> str:
    """A job over a run that the service trained."""
    x, y = walk.digits(100)
    data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    body = {"type": "train", "architecture": {"name": "mlp", "config": walk.MLP}, "recipe": RECIPE}
    body |= {"task": {"type": "classification", "loss": "cross_entropy"}, "train_dataset_id": data}
    job = walk.finished(client, walk.ok(client.post("/v1/jobs", json=body), 202)["id"])
    posted = walk.post_job(client, job["result"]["trajectory_id"], data, data)
    job_id: str = walk.finished(client, walk.ok(posted, 202)["id"])["id"]
    return job_id


def submitted(client: httpx.Client, job_id: str) -> str:
    selection_id: str = walk.ok(client.post(f"/v1/jobs/{job_id}/selections", json=ASKED), 201)["id"]
    return selection_id


def outcome(client: httpx.Client, selection_id: str) -> Outcome:
    path = f"/v1/selections/{selection_id}"
    done = walk.until(client, path, {"succeeded", "failed"})
    assert done["status"] == "succeeded", done
    samples = walk.ok(client.get(f"{path}/samples"), 200)["data"]
    return Outcome(done["result"], samples, client.get(f"{path}/checkpoint").content)


def kill_at(service: Service, database: Database, selection_id: str, kind: str) -> None:
    """Kills the worker while it is at a unit of this kind."""
    query = select(func.count()).where(Work.subject == selection_id, Work.kind == kind)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if running(database, query):
            kill(worker_of(service.process.pid))
            assert running(database, query), "the unit ended before it could be disturbed"
            return
        time.sleep(0.005)
    raise AssertionError(f"no worker was seen at {kind}")


def running(database: Database, query: Select[int]) -> bool:
    with database.snapshot() as session:
        return session.scalar(query.where(Work.status == "running")) == 1


@pytest.mark.slow
def test_killed_workers_change_no_bit_of_a_selection(embedded_service: Service) -> None:
    """One is killed while it updates the checkpoint, the next while it trains again."""
    database = Database(f"sqlite:///{embedded_service.data_dir / 'diffin.db'}")
    with embedded_service.client() as client:
        job_id = scored(client)
        expected = outcome(client, submitted(client, job_id))
        selection_id = submitted(client, job_id)
        kill_at(embedded_service, database, selection_id, "update")
        kill_at(embedded_service, database, selection_id, "verify")
        assert outcome(client, selection_id) == expected
    database.engine.dispose()
