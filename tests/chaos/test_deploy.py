"""A new version is deployed while the old one works: SIGTERM to workers and API loses nothing.

A worker that is to stop ends the unit in hand within seconds or gives it back, which counts as no failure.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import services, walk
from tests.chaos import rows
from tests.chaos.test_kill_training import run_of, submitted
from tests.services import Service
from worker.lease import GRACE_SECONDS

pytestmark = pytest.mark.slow
STEPS = 14_000
MARGIN = 20.0  # seconds that Celery, and a busy machine, may take beside


def long_training(client: httpx.Client, train: str) -> str:
    """A job whose steps are one unit of work, far longer than the grace."""
    slow = {"name": "constant", "learning_rate": 0.001}
    return submitted(client, train, schedule=slow, steps=STEPS, every=STEPS)


def ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The run that the job made; a busy machine takes minutes."""
    walk.finished(client, job_id, seconds=600)
    return run_of(client, job_id)


def until_it_steps(client: httpx.Client, job_id: str) -> None:
    def done() -> bool:
        completed: int = walk.ok(client.get(f"/v1/jobs/{job_id}"), 200)["progress"]["completed"]
        assert completed < STEPS / 2, "too fast to be disturbed"
        return completed > 100

    rows.wait_until(done, "stepping")


def test_a_worker_gives_back_a_long_unit_and_another_ends_the_job(tmp_path: Path) -> None:
    service = services.prepared(tmp_path, BLOCK_SECONDS="1000", THREADS="1", LEASE_SECONDS="15")
    service.migrate()
    with ExitStack() as stack:
        stack.enter_context(service.running("api", "api"))
        services.wait_for_http(service)
        client = stack.enter_context(service.client())
        old = ExitStack()
        process = old.enter_context(service.running("old worker", "worker"))
        x, y = walk.digits()
        train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        job_id = long_training(client, train)
        until_it_steps(client, job_id)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(GRACE_SECONDS + MARGIN)
        took = time.monotonic() - began
        old.close()
        units = {unit.kind: unit for unit in rows.units(service, job_id)}
        unit = units["train"]
        print(f"the worker was gone after {took:.1f} s; its unit is {unit.status}, {unit.failures} failures")
        assert (unit.status, unit.failures, unit.attempt) == ("queued", 0, 2)
        stack.enter_context(service.running("new worker", "worker"))
        disturbed, undisturbed = (ended(client, one) for one in (job_id, long_training(client, train)))
        assert [c["sha256"] for c in disturbed["checkpoints"]] == [
            c["sha256"] for c in undisturbed["checkpoints"]
        ]
        story = [event for event in walk.events(client, job_id) if event != "job.progress"]
        assert story == ["job.queued", "job.started", "job.succeeded"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Service]:
    service = services.prepared(tmp_path)
    service.migrate()
    with service.running("api", "api"):
        services.wait_for_http(service)
        yield service


def test_an_api_that_is_to_stop_answers_the_requests_it_has(api: Service) -> None:
    content = b"x" * 200_000
    half = threading.Event()

    def slowly() -> Iterator[bytes]:
        boundary = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nd\r\n'
        file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="d.npz"\r\n\r\n'
        yield boundary + file
        yield content[:100_000]
        half.set()
        time.sleep(1.5)
        yield content[100_000:] + b"\r\n--b--\r\n"

    def stop() -> None:
        half.wait(30)
        api.process.send_signal(signal.SIGTERM)

    stopping = threading.Thread(target=stop)
    stopping.start()
    with api.client() as client:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = client.post("/v1/datasets", content=slowly(), headers=headers)
    stopping.join()
    dataset_id = walk.ok(answer, 202)["id"]
    assert api.process.wait(20) in services.CLEAN
    with api.running("api", "api"), api.client() as client:
        services.wait_for_http(api)
        found = walk.ok(client.get(f"/v1/datasets/{dataset_id}"), 200)
        assert (found["status"], found["bytes"]) == ("validating", len(content))
