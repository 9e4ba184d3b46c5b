"""Jobs cancelled in every state, and while each kind of unit runs: each ends, once, and leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import services, walk
from tests.chaos import rows
from tests.chaos.test_kill import ask
from tests.services import Service

ENDS = {"job.cancelled", "job.succeeded", "job.failed"}
KINDS = [
    *(("influence", kind) for kind in ("plan", "sweep", "block", "reduce")),
    *(("train", kind) for kind in ("prepare", "train", "conclude")),
]
TRIES = 15  # a unit may be over before the cancellation is there


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("cancel")
    with services.embedded(folder, BLOCK_SECONDS="0.05", LEASE_SECONDS="3") as running:
        yield running


@pytest.fixture(scope="module")
def bodies(service: Service) -> dict[str, dict[str, Any]]:
    """What is asked, by type."""
    with service.client() as client:
        question = ask(client)
    data = {"train_dataset_id": question["train"], "query_dataset_id": question["query"]}
    run = {"type": "influence", "trajectory_id": question["trajectory_id"], "method": {"name": "diff_in"}}
    training = {
        "type": "train",
        "architecture": {"name": "mlp", "config": walk.MLP},
        "task": {"type": "classification", "loss": "cross_entropy"},
        "train_dataset_id": question["train"],
        "recipe": {
            "schedule": {"name": "constant", "learning_rate": 0.1},
            "batch_size": 32,
            "total_steps": 300,
        },
    }
    return {"influence": run | data, "train": training}


def running(service: Service, job_id: str) -> set[str]:
    """The kinds of the job's units that are being done."""
    return {unit.kind for unit in rows.units(service, job_id) if unit.status == "running"}


def ended_once(service: Service, client: httpx.Client, job_id: str) -> str:
    """The job's end; a second cancellation changes nothing, and nothing of its work is left."""
    status: str = walk.finished(client, job_id, seconds=60)["status"]
    again = client.post(f"/v1/jobs/{job_id}/cancel")
    assert again.status_code == (200 if status == "cancelled" else 409), again.text
    time.sleep(0.2)
    assert [event for event in walk.events(client, job_id) if event in ENDS] == [f"job.{status}"]
    assert rows.units(service, job_id) == []
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    return status


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "kind"), KINDS)
def test_while_a_unit_of_each_kind_runs(
    service: Service, bodies: dict[str, dict[str, Any]], asked: str, kind: str
) -> None:
    ends = []
    with service.client() as client:
        for _ in range(TRIES):
            job_id = walk.ok(client.post("/v1/jobs", json=bodies[asked]), 202)["id"]
            while kind not in running(service, job_id):
                if walk.ok(client.get(f"/v1/jobs/{job_id}"), 200)["status"] in walk.FINISHED:
                    break
            answer = client.post(f"/v1/jobs/{job_id}/cancel")
            assert answer.status_code in (200, 202, 409)
            ends.append(ended_once(service, client, job_id))
            if ends[-1] == "cancelled":
                return
    raise AssertionError(f"{kind} was over before it could be cancelled: {ends}")


@pytest.mark.slow
def test_while_it_waits_and_while_it_is_being_cancelled(
    service: Service, bodies: dict[str, dict[str, Any]]
) -> None:
    with service.client() as client:
        first = walk.ok(client.post("/v1/jobs", json=bodies["influence"]), 202)["id"]
        second = walk.ok(client.post("/v1/jobs", json=bodies["influence"]), 202)["id"]
        answers = [client.post(f"/v1/jobs/{second}/cancel") for _ in range(3)]
        assert {answer.status_code for answer in answers} <= {200, 202}
        assert ended_once(service, client, second) == "cancelled"
        rows.wait_until(lambda: running(service, first), "running")
        answers = [client.post(f"/v1/jobs/{first}/cancel") for _ in range(3)]
        assert {answer.status_code for answer in answers} <= {200, 202}
        assert ended_once(service, client, first) == "cancelled"
