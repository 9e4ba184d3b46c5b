"""A worker killed while it writes an export: another attempt writes the same bytes."""

from __future__ import annotations

import time

import httpx
import numpy as np

from app.store import scores
from app.store.db import Database
from app.store.tables import Job
from tests import walk
from tests.chaos.processes import kill, worker_of
from tests.services import Service

N = 50_000  # so many rows take a second


def job_of_many(service: Service, client: httpx.Client) -> str:
    """A job that succeeded, its scores replaced by those of many samples."""
    x, y = walk.digits(20)
    data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    asked = walk.post_job(client, walk.run(client, (10,)), data, data, method={"name": "loss"})
    job_id: str = walk.finished(client, walk.ok(asked, 202)["id"])["id"]
    draw = np.random.default_rng(0)
    score = draw.normal(size=N)
    columns = {
        "sample_index": np.arange(N),
        "sample_id": np.array([f"sample {i}" for i in range(N)]),
        "score": score,
        "rank": scores.ranks(score),
        "label": np.arange(N) % 10.0,
        "predicted_label": np.arange(N) % 9.0,
        "loss": draw.exponential(size=N),
        "contributions": score[:, None],
        "losses": np.ones((N, 1)),
    }
    database = Database(f"sqlite:///{service.data_dir / 'diffin.db'}")
    with database.transaction() as session:
        scores.drop(session, job_id)
        scores.write(session, job_id, columns)
        job = session.get_one(Job, job_id)
        job.result = (job.result or {}) | {"num_samples": N}
    database.engine.dispose()
    return job_id


def asked(client: httpx.Client, job_id: str, kind: str) -> str:
    posted = walk.ok(client.post("/v1/exports", json={"job_id": job_id, "format": kind}), 202)
    return f"/v1/exports/{posted['id']}"


def written(client: httpx.Client, path: str) -> bytes:
    body = walk.until(client, path, {"succeeded", "failed"})
    assert body["status"] == "succeeded", body
    return client.get(f"{path}/content").content


def wait_until_it_is_being_written(client: httpx.Client, path: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status = walk.ok(client.get(path), 200)["status"]
        if status == "running":
            return
        assert status == "queued", "it was written before it could be disturbed"
        time.sleep(0.01)
    raise AssertionError("the export never got going")


def test_a_killed_export_is_written_again_to_the_same_bytes(embedded_service: Service) -> None:
    with embedded_service.client() as client:
        job_id = job_of_many(embedded_service, client)
        expected = written(client, asked(client, job_id, "npz"))
        path = asked(client, job_id, "npz")
        wait_until_it_is_being_written(client, path)
        kill(worker_of(embedded_service.process.pid))
        assert written(client, path) == expected
