"""A project with a hundred jobs in the queue keeps no other project waiting."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests import services, walk
from tests.services import Service

MANY = 100


def of_project(service: Service, client: httpx.Client, project_id: str) -> httpx.Client:
    """A client with a key of this project."""
    body = {"project_id": project_id, "name": "k", "scopes": ["read", "write"]}
    asked = client.post("/v1/api-keys", json=body)
    headers = {"Authorization": f"Bearer {walk.ok(asked, 201)['key']}"}
    return httpx.Client(base_url=service.url, headers=headers, timeout=30)


def question(client: httpx.Client) -> tuple[str, str]:
    """A run and a data set of the project's own."""
    x, y = walk.digits(200)
    return walk.run(client, (10, 20)), walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]


def ask(client: httpx.Client, run: str, data: str) -> str:
    job: str = walk.ok(walk.post_job(client, run, data, data, method={"name": "tracin"}), 202)["id"]
    return job


def started(client: httpx.Client, since: str, until: str) -> int:
    """How many of the client's jobs a worker came for in this time."""
    listed = walk.ok(client.get("/v1/jobs", params={"limit": 1000}), 200)["data"]
    return sum(since < (job["started_at"] or "") < until for job in listed)


@pytest.mark.slow  # half a minute to post a hundred jobs
def test_a_job_behind_a_hundred_of_another_project_begins_after_one_of_them(tmp_path: Path) -> None:
    with (
        services.embedded(tmp_path, THREADS="1") as service,
        service.client() as admin,
        of_project(service, admin, "many") as many,
        of_project(service, admin, "one") as one,
    ):
        asked_by_many, asked_by_one = question(many), question(one)
        for _ in range(MANY):
            ask(many, *asked_by_many)
        job = walk.finished(one, ask(one, *asked_by_one))
        assert job["status"] == "succeeded"
        before = started(many, job["created_at"], job["started_at"])
        left = MANY - started(many, "", job["finished_at"])
        print(f"{before} of the others' jobs began before it; when it was done, {left} had not begun")
        assert before <= 1 < left
