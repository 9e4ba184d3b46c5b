"""Workers killed with SIGKILL in the middle of a job: it ends once, with the same scores to the bit."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import httpx
import pytest

from tests import services, walk
from tests.chaos.processes import children, kill, worker_of
from tests.services import Service

STEPS = (10, 20, 30, 40)
SLOWLY = {"BLOCK_SECONDS": "0.001", "LEASE_SECONDS": "1"}  # many blocks: a kill hits the middle of the job


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with services.embedded(tmp_path_factory.mktemp("chaos"), **SLOWLY) as service:
        yield service


@pytest.fixture(scope="module")
def ask(service: Service) -> dict[str, str]:
    """What every job of this module asks: the same run, the same data."""
    with service.client() as client:
        x, y = walk.digits(1500)
        train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        query = walk.dataset(client, walk.npz(inputs=x[:100], targets=y[:100]))["id"]
        return {"trajectory_id": walk.run(client, STEPS), "train": train, "query": query}


def submit(client: httpx.Client, ask: dict[str, str]) -> str:
    job: str = walk.ok(walk.post_job(client, **ask), 202)["id"]
    return job


def in_the_middle(client: httpx.Client, job_id: str) -> None:
    """Returns once some, and not all, of the job is done."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        job = walk.ok(client.get(f"/v1/jobs/{job_id}"), 200)
        if job["status"] == "running" and 0 < job["progress"]["completed"] < job["progress"]["total"]:
            return
        assert job["status"] in ("queued", "running"), "the job ended before it could be disturbed"
        time.sleep(0.01)
    raise AssertionError("the job never got going")


@pytest.fixture(scope="module")
def undisturbed(service: Service, ask: dict[str, str]) -> list[dict[str, object]]:
    with service.client() as client:
        job_id = submit(client, ask)
        assert walk.finished(client, job_id)["status"] == "succeeded"
        return walk.scores(client, job_id)


@pytest.mark.parametrize("moment", range(3))
@pytest.mark.parametrize("victim", ["pool child", "worker"])
def test_a_killed_worker_costs_time_and_nothing_else(
    service: Service, ask: dict[str, str], undisturbed: list[dict[str, object]], victim: str, moment: int
) -> None:
    with service.client() as client:
        job_id = submit(client, ask)
        in_the_middle(client, job_id)
        time.sleep(random.Random(moment).uniform(0, 0.3))
        worker = worker_of(service.process.pid)
        pool = children(worker)
        kill(pool[-1] if victim == "pool child" else worker)
        if victim == "worker":
            for child in pool:  # else an orphan of the pool would go on and finish the job by itself
                kill(child)
        job = walk.finished(client, job_id)
        assert job["status"] == "succeeded", job
        assert walk.scores(client, job_id) == undisturbed
        seen = walk.events(client, job_id)
        assert [event for event in seen if event != "job.progress"] == [
            "job.queued",
            "job.started",
            "job.succeeded",
        ]
