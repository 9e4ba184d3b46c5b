"""What is counted holds for requests side by side, on either database: quotas of a project, the last key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Quota, Settings
from app.store import usage
from tests.api.front_end import KEY, RUN, Service, bearer, listening, npz, problem

AT_ONCE, MAY = 20, 5
BYTES = 10_000
QUOTA = Quota(bytes=MAY * BYTES + BYTES // 2, jobs_queued=MAY)
FILE = "a.npy"


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A front end of the test's own, and a project with quotas in it."""
    settings = Settings(
        data_dir=tmp_path, database_url=database_url, api_key=SecretStr(KEY), project_quotas={"small": QUOTA}
    )
    app = create_app(settings)
    with listening(app) as url, httpx.Client(base_url=url, headers=bearer("small"), timeout=60) as http:
        service = Service(app, settings, http, "small")
        service.make_key("small", "write", "read")
        yield service


def side_by_side(ask: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, range(AT_ONCE)))


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def test_of_jobs_posted_at_once_as_many_wait_as_may(service: Service) -> None:
    train = service.upload(np.zeros((12, 4)))["id"]
    service.validate(train)
    recipe = {"schedule": {"name": "constant", "learning_rate": 0.1}, "batch_size": 5, "epochs": 2}
    network = {"name": "linear", "config": {"in_features": 4, "num_classes": 3}}
    body = {"architecture": network, "task": RUN["task"], "train_dataset_id": train, "recipe": recipe}
    answers = side_by_side(lambda _: service.http.post("/v1/jobs", json={"type": "train", **body}))
    assert statuses(answers) == {202: MAY, 429: AT_ONCE - MAY}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert f"{MAY} may" in problem(refused, 429, "quota_exceeded")["detail"]


def test_of_files_sent_at_once_as_many_are_kept_as_fit(service: Service) -> None:
    """Each way that a file comes in; contents differ, since the same one is kept and counted once."""

    def send(number: int) -> httpx.Response:
        file = {"file": (f"{number}.csv", f"{number:06d}".encode() + b"x" * (BYTES - 6))}
        if number % 2:
            return service.http.post("/v1/datasets", files=file, data={"name": str(number)})
        fields = {"step": str(number), "learning_rate": "0.1"} if number else {"step": "0"}
        return service.http.post(f"/v1/trajectories/{run}/checkpoints", files=file, data=fields)

    run = service.trajectory()["id"]
    assert statuses(side_by_side(send)) == {202: MAY, 403: AT_ONCE - MAY}
    assert stored(service) == MAY * BYTES


def test_of_uploads_begun_at_once_as_many_are_taken_as_fit(service: Service) -> None:
    body = {"filename": FILE, "bytes": BYTES}
    answers = side_by_side(lambda _: service.http.post("/v1/uploads", json=body))
    assert statuses(answers) == {201: MAY, 403: AT_ONCE - MAY}
    assert stored(service) == MAY * BYTES


def test_a_refused_file_leaves_nothing_on_the_disk(service: Service) -> None:
    side_by_side(
        lambda number: service.http.post(
            "/v1/datasets", files={"file": (FILE, npz(np.full(1000, number), np.zeros(1000)))}
        )
    )
    kept = [path for path in service.blobs.folder.glob("??/*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) == stored(service) <= (QUOTA.bytes or 0)


def test_a_project_without_a_byte_left_starts_no_job(service: Service) -> None:
    service.http.post("/v1/uploads", json={"filename": FILE, "bytes": QUOTA.bytes}).raise_for_status()
    problem(service.http.post("/v1/jobs", json={"type": "train"}), 422, "validation_error")
    influence = {"type": "influence", "trajectory_id": "tr_1", "train_dataset_id": "ds_1"}
    answer = service.http.post("/v1/jobs", json=influence | {"method": {"name": "loss"}})
    problem(answer, 403, "quota_exceeded")


def test_admins_who_revoke_each_other_leave_one(service: Service) -> None:
    def revoke(pair: tuple[str, str]) -> httpx.Response:
        key, other = pair
        return httpx.delete(f"{service.url}/v1/api-keys/{other}", headers=bearer(key), timeout=60)

    first = httpx.get(f"{service.url}/v1/api-keys", headers=bearer(KEY), params={"project_id": "default"})
    key, key_id = KEY, first.json()["data"][0]["id"]
    for _ in range(5):
        body = {"name": "another", "scopes": ["admin"]}
        made = httpx.post(f"{service.url}/v1/api-keys", headers=bearer(key), json=body, timeout=60).json()
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(revoke, [(key, made["id"]), (made["key"], key_id)]))
        left = [
            one for one, answer in zip((key, made["key"]), answers, strict=True) if answer.status_code == 204
        ]
        assert len(left) == 1, [answer.text for answer in answers]
        if left == [made["key"]]:
            key, key_id = made["key"], made["id"]


def stored(service: Service) -> int:
    with service.database.snapshot() as session:
        return usage.stored(session, "small")
