"""A worker that hangs (SIGSTOP) beyond its lease: another takes over, and nothing it writes late counts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests import services
from tests.chaos import rows
from tests.chaos.test_kill import ask, ends_as, submitted, undisturbed, wait_for_the_middle
from tests.services import Service

SETTINGS = {"BLOCK_SECONDS": "0.05", "LEASE_SECONDS": "2"}
ROUNDS = 3


@pytest.mark.slow
def test_late_writes_of_a_worker_that_hung_are_fenced_off(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    with (
        services.production(tmp_path, postgres_url, redis_url, workers=2, **SETTINGS) as service,
        service.client() as client,
    ):
        question = ask(client)
        expected = undisturbed(client, question)
        for moment in range(ROUNDS):
            job_id = submitted(client, question)
            wait_for_the_middle(client, job_id, moment)
            pid = stopped_with_a_unit(service, job_id)
            ends_as(client, job_id, expected)
            before = rows.everything(service, job_id)
            os.kill(pid, signal.SIGCONT)
            time.sleep(2)
            assert rows.everything(service, job_id) == before, "it wrote although its lease was over"
        told = service.log.read_text().count("the lease is somebody else's now")
        print(f"of {ROUNDS} workers that hung with a unit, {told} found that it was somebody else's")
        assert told


def stopped_with_a_unit(service: Service, job_id: str) -> int:
    """Stops a worker that holds a unit of the job; returns its pid."""
    for attempt in range(200):
        pid = service.processes[f"worker {attempt % 2 + 1}"].pid
        os.kill(pid, signal.SIGSTOP)
        if any(rows.held_by(unit, pid) for unit in rows.units(service, job_id)):
            return pid
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("no worker ever held a unit")
