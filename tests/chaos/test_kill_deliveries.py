"""Webhooks of a real service; a worker killed while it sends them loses none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store import webhooks
from app.store.db import Database
from tests import services, walk
from tests.chaos.processes import kill, worker_of
from tests.receivers import Receiver, receiving
from tests.services import Service

JOBS, KILLS = 12, 1
FAST = {"WEBHOOK_ALLOW": "127.0.0.0/8", "WEBHOOK_SECONDS": "1", "LEASE_SECONDS": "1"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("webhooks")
    with services.embedded(folder, **FAST, WEBHOOK_RETRY_SECONDS="[0.2, 0.2, 0.2]") as running:
        yield running


def test_what_became_of_all_that_was_asked_for_is_told(service: Service) -> None:
    x, y = walk.digits(20)
    with receiving() as receiver, service.client() as client:
        asked = client.post("/v1/webhook-endpoints", json={"url": receiver.url})
        secret = walk.ok(asked, 201)["secret"]
        data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        assert walk.dataset(client, b"no archive")["status"] == "invalid"
        run = walk.run(client, (10,))
        job = walk.ok(walk.post_job(client, run, data, data, method={"name": "loss"}), 202)["id"]
        assert walk.finished(client, job)["status"] == "succeeded"
        selected = client.post(f"/v1/jobs/{job}/selections", json={"type": "coreset", "size": 4})
        exported = client.post("/v1/exports", json={"job_id": job, "format": "csv"})
        made = {walk.ok(selected, 201)["id"], walk.ok(exported, 202)["id"]}
        receiver.wait_for(6)
        told = {message["type"]: message["data"] for message in receiver.verified(secret)}
    assert {kind for kind in told if kind.startswith(("dataset", "checkpoint"))} == {
        "dataset.ready",
        "dataset.invalid",
        "checkpoint.ready",
    }
    assert told["dataset.ready"]["id"] == data
    assert told["job.succeeded"] == {"id": job, "status": "succeeded", "type": "influence"}
    assert {told[f"{kind}.succeeded"]["id"] for kind in ("selection", "export")} == made


@pytest.mark.slow
def test_no_message_is_lost(service: Service) -> None:
    receiver = Receiver(answer=lambda n: (500 if n % 7 == 3 else 200, {}), seconds=0.1)
    with receiving(receiver), service.client() as client:
        asked = client.post("/v1/webhook-endpoints", json={"url": receiver.url})
        secret = walk.ok(asked, 201)["secret"]
        database = Database(f"sqlite:///{service.data_dir / 'diffin.db'}")
        for number in range(JOBS):
            for kind in ("job.succeeded", "selection.succeeded", "export.succeeded"):
                with database.transaction() as session:
                    data = {"id": f"{kind} of {number}", "status": "succeeded"}
                    webhooks.emit(session, "default", kind, data, ordered_by=f"job_{number}")
        database.engine.dispose()
        for round_ in range(1, KILLS + 1):
            receiver.wait_for(4 * round_)
            kill(worker_of(service.process.pid))
            time.sleep(1.5)  # until another is started
        end = time.monotonic() + 90
        while walk.ok(client.get("/v1/webhook-deliveries?status=pending&limit=1"), 200)["data"]:
            assert time.monotonic() < end, "messages are still pending"
            time.sleep(0.1)
        delivered = client.get("/v1/webhook-deliveries?status=delivered&limit=1000").json()["data"]
    assert len([row for row in delivered if " of " in row["subject"]]) == 3 * JOBS
    order: dict[str, list[str]] = {}
    for message in receiver.verified(secret):
        kind, _, number = message["data"]["id"].partition(" of ")
        seen = order.setdefault(number, [])
        if kind not in seen:
            seen.append(kind)
    assert set(order) == {str(number) for number in range(JOBS)}
    assert {tuple(kinds) for kinds in order.values()} == {
        ("job.succeeded", "selection.succeeded", "export.succeeded")
    }
