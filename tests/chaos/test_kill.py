"""Workers killed with SIGKILL in the middle of a job: it ends once, with the same scores to the bit."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from diffin import Diffin
from examples.digits import digits
from examples.digits_demo import record, send
from tests import services, walk
from tests.chaos.processes import kill, worker_of
from tests.servers import PostgresServer
from tests.services import Service

STEPS = (10, 20, 30, 40)
SLOWLY = {"BLOCK_SECONDS": "0.001", "LEASE_SECONDS": "1"}  # many blocks: a kill hits the middle of the job
STORY = ["job.queued", "job.started", "job.succeeded"]
Rows = list[dict[str, Any]]


def ask(client: httpx.Client) -> dict[str, str]:
    """A question that takes a while: the same run, the same data."""
    x, y = walk.digits(1500)
    train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    query = walk.dataset(client, walk.npz(inputs=x[:100], targets=y[:100]))["id"]
    return {"trajectory_id": walk.run(client, STEPS), "train": train, "query": query}


def submitted(client: httpx.Client, question: dict[str, str]) -> str:
    job: str = walk.ok(walk.post_job(client, **question), 202)["id"]
    return job


def undisturbed(client: httpx.Client, question: dict[str, str]) -> Rows:
    job_id = submitted(client, question)
    assert walk.finished(client, job_id)["status"] == "succeeded"
    return walk.scores(client, job_id)


def wait_for_the_middle(client: httpx.Client, job_id: str, seed: int) -> None:
    """Returns at some moment when part of the job, and not all of it, is done."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        job = walk.ok(client.get(f"/v1/jobs/{job_id}"), 200)
        if job["status"] == "running" and 0 < job["progress"]["completed"] < job["progress"]["total"]:
            time.sleep(random.Random(seed).uniform(0, 0.2))
            return
        assert job["status"] in ("queued", "running"), "the job ended before it could be disturbed"
        time.sleep(0.01)
    raise AssertionError("the job never got going")


def ends_as(client: httpx.Client, job_id: str, expected: Rows) -> None:
    job = walk.finished(client, job_id)
    assert job["status"] == "succeeded", job
    assert walk.scores(client, job_id) == expected
    assert [event for event in walk.events(client, job_id) if event != "job.progress"] == STORY


def demo(service: Service, folder: Path) -> dict[str, str]:
    """The question of `make demo`: a CNN on 1,200 digits, 8 checkpoints."""
    data = digits(seed=0, samples=1200)
    recorder = record(data, folder, seed=0)[1]
    with Diffin(service.url, service.key) as client:
        trajectory, train, query = send(client, data, recorder)
    return {"trajectory_id": trajectory.id, "train": train.id, "query": query.id}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, dict[str, str], Rows]]:
    """The embedded service, the demo's question, and its answer when nothing happens."""
    folder = tmp_path_factory.mktemp("kills")
    with services.embedded(folder, **SLOWLY) as service, service.client() as client:
        question = demo(service, folder / "run")
        yield service, question, undisturbed(client, question)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(4))
def test_the_only_worker_is_killed_and_another_one_started(
    embedded: tuple[Service, dict[str, str], Rows], moment: int
) -> None:
    service, question, expected = embedded
    with service.client() as client:
        job_id = submitted(client, question)
        wait_for_the_middle(client, job_id, moment)
        kill(worker_of(service.process.pid))
        ends_as(client, job_id, expected)


def test_one_of_two_workers_is_killed_and_the_other_takes_over(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str, redis_url: str
) -> None:
    with (
        postgres.fresh(postgres_template) as url,
        services.production(tmp_path, url, redis_url, workers=2, **SLOWLY) as service,
        service.client() as client,
    ):
        question = ask(client)
        expected = undisturbed(client, question)
        job_id = submitted(client, question)
        wait_for_the_middle(client, job_id, 0)
        kill(service.processes["worker 1"].pid)
        ends_as(client, job_id, expected)
