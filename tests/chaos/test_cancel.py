"""Jobs cancelled at any moment: each ends, once."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests import services, walk

MOMENTS = 12


@pytest.mark.slow
def test_a_job_cancelled_at_any_moment_ends_once(tmp_path: Path) -> None:
    with (
        services.embedded(tmp_path, BLOCK_SECONDS="0.001", LEASE_SECONDS="2") as service,
        service.client() as client,
    ):
        x, y = walk.digits(1000)
        train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        run = walk.run(client, (10, 20, 30))
        ends = []
        for moment in range(MOMENTS):
            job_id = walk.ok(walk.post_job(client, run, train, train, method={"name": "tracin"}), 202)["id"]
            time.sleep(random.Random(moment).uniform(0, 0.8))
            assert client.post(f"/v1/jobs/{job_id}/cancel").status_code in (200, 202, 409)
            ends.append(walk.finished(client, job_id, seconds=20)["status"])
            story = walk.events(client, job_id)
            assert sum(event in ("job.cancelled", "job.succeeded") for event in story) == 1
            assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
        assert set(ends) <= {"cancelled", "succeeded"} and "cancelled" in ends
