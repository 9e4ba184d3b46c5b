"""An upload beside a long job, where one worker does all: it is read between two of the job's blocks."""

from __future__ import annotations

import time
from typing import Any

from tests import walk
from tests.services import Service

SCHEDULE = {"name": "constant", "learning_rate": 0.01}
JOB: dict[str, Any] = {
    "type": "train",
    "architecture": {"name": "mlp", "config": walk.MLP},
    "task": {"type": "classification", "loss": "cross_entropy"},
    "recipe": {"schedule": SCHEDULE, "batch_size": 16, "total_steps": 500_000},
}


def test_an_upload_need_not_wait_for_the_workers_stay_to_end(embedded_service: Service) -> None:
    x, y = walk.digits(100)
    content = walk.npz(inputs=x, targets=y)
    with embedded_service.client() as client:
        data = walk.dataset(client, content)["id"]
        job = walk.ok(client.post("/v1/jobs", json=JOB | {"train_dataset_id": data}), 202)["id"]
        try:
            while walk.ok(client.get(f"/v1/jobs/{job}"), 200)["progress"]["completed"] == 0:
                time.sleep(0.1)
            for _ in range(2):  # the second one comes while the job has its turn again
                started = time.monotonic()
                assert walk.dataset(client, content)["status"] == "ready"
                assert time.monotonic() - started < 12  # a block takes 2 s, a stay 20
            assert walk.ok(client.get(f"/v1/jobs/{job}"), 200)["status"] == "running"
        finally:
            client.post(f"/v1/jobs/{job}/cancel")
            walk.finished(client, job)
