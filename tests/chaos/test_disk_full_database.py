"""The disk of the embedded database is full while a job runs: writes are refused in words, what is there can
be read, and the job goes on once there is room.
"""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from tests import services
from tests.chaos.disks import fill, refused, small_disk
from tests.chaos.test_kill import ask, ends_as, submitted, undisturbed, wait_for_the_middle

SETTINGS = {"BLOCK_SECONDS": "0.001", "LEASE_SECONDS": "1"}
RUN = {
    "architecture": {"name": "linear", "config": {"in_features": 2, "num_classes": 2}},
    "task": {"type": "classification", "loss": "cross_entropy"},
    "notes": "long " * 2000,
}


def until_refused(client: httpx.Client) -> None:
    """Writes until what the database had in reserve is used up."""
    for number in range(2000):
        answer = client.post("/v1/trajectories", json=RUN | {"name": f"run {number}"})
        if answer.status_code != 201:
            refused(answer)
            return
    raise AssertionError("the database took everything")


@pytest.mark.slow
def test_a_full_database_refuses_writes_and_loses_no_job(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        url = f"sqlite:///{disk / 'diffin.db'}"
        with (
            services.embedded(tmp_path / "data", DATABASE_URL=url, **SETTINGS) as service,
            service.client() as client,
        ):
            question = ask(client)
            expected = undisturbed(client, question)
            for moment in range(3):
                job_id = submitted(client, question)
                wait_for_the_middle(client, job_id, moment)
                filler = fill(disk)
                until_refused(client)
                assert client.get(f"/v1/jobs/{job_id}").status_code == 200
                time.sleep(2)  # twice the lease
                filler.unlink()
                ends_as(client, job_id, expected)
                refused_no_more = client.post("/v1/trajectories", json=RUN | {"name": "run"})
                assert refused_no_more.status_code == 201
