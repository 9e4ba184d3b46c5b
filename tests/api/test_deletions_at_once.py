"""What names the same bytes is deleted at the same moment, on PostgreSQL: each is gone, and so are they.

Of two that let go of the same content neither may hold what the other waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from app.main import create_app
from app.settings import Settings
from app.store import exports, selections
from app.store.db import new_id
from app.store.tables import Blob, Export, Job, Selection
from tests.api.front_end import KEY, Service, bearer, listening, request_of, scored

ROUNDS = [6, pytest.param(25, marks=pytest.mark.slow)]


@pytest.fixture
def service(postgres_url: str, tmp_path: Path) -> Iterator[Service]:
    settings = Settings(data_dir=tmp_path, database_url=postgres_url, api_key=SecretStr(KEY))
    app = create_app(settings)
    with listening(app) as url, httpx.Client(base_url=url, timeout=30) as http:
        service = Service(app, settings, http, project_id := new_id("project"))
        service.make_key(project_id, "admin")
        http.headers.update(bearer(project_id))
        yield service


# ---- two of a kind, or of two kinds, that name the same bytes
def uploads(service: Service, turn: int) -> list[str]:
    return [upload(service, b"%d" % turn) for _ in range(2)]


def upload(service: Service, content: bytes) -> str:
    asked = {"filename": "d.npz", "bytes": len(content)}
    path = f"/v1/uploads/{service.http.post('/v1/uploads', json=asked).json()['id']}"
    assert service.http.put(f"{path}/parts/1", content=content).status_code == 204
    assert service.http.post(f"{path}/complete").status_code == 200
    return path


def dataset(service: Service, turn: int, *, ready: bool) -> str:
    """One of its own arrays, of the turn; its file is that of all others until it is ready."""
    dataset_id: str = service.upload()["id"]
    if ready:
        inputs = np.arange(48, dtype=np.float32).reshape(12, 4)
        service.validate(dataset_id, inputs + turn, np.arange(12) % (2 + turn))
    return f"/v1/datasets/{dataset_id}"


def ready_data_sets(service: Service, turn: int) -> list[str]:
    return [dataset(service, turn, ready=True) for _ in range(2)]


def waiting_data_sets(service: Service, turn: int) -> list[str]:
    return [dataset(service, turn, ready=False) for _ in range(2)]


def an_upload_and_its_data_set(service: Service, turn: int) -> list[str]:
    path = upload(service, content := b"the file of turn %d" % turn)
    made = service.http.post(
        "/v1/datasets", files={"file": ("d.csv", content)}, data={"name": "d", "format": "csv"}
    )
    return [path, f"/v1/datasets/{made.json()['id']}"]


def runs(service: Service, turn: int) -> list[str]:
    """Of two checkpoints each, the second run's the other way round: blobs come in either order."""
    found = []
    for order in (1, -1):
        trajectory_id = service.trajectory()["id"]
        for step in (10, 20)[::order]:
            name = f"{turn}: {10 if (step == 10) == (order == 1) else 20}"
            answer = service.http.post(
                f"/v1/trajectories/{trajectory_id}/checkpoints",
                files={"file": ("c.safetensors", name.encode())},
                data={"step": str(step), "learning_rate": "0.1"},
            )
            assert answer.status_code == 202, answer.text
        found.append(f"/v1/trajectories/{trajectory_id}")
    return found


class Made:
    """Jobs that succeeded, with what may come of them; contents are those of the turn."""

    def __init__(self, service: Service, turn: int) -> None:
        self.service, self.turn = service, turn

    def job(self) -> str:
        given = {name: data(self.service, name) for name in ("train_dataset_id", "query_dataset_id")}
        run = data(self.service, "trajectory_id")
        body = request_of({"trajectory_id": run, **given})
        job_id: str = self.service.http.post("/v1/jobs", json=body).json()["id"]
        self.service.succeed(job_id, scored(1))
        return job_id

    def selection(self, job_id: str) -> str:
        asked = {"type": "clean", "size": 1}
        made = self.service.http.post(f"/v1/jobs/{job_id}/selections", json=asked)
        selection_id: str = made.json()["id"]
        with self.service.database.transaction() as session:
            row = session.get_one(Selection, selection_id)
            for role in (selections.ROWS, selections.CHECKPOINT):
                with self.service.blobs.stage() as staged:
                    staged.write_text(f"{role} of {self.turn}")
                    selections.keep(session, self.service.blobs, row, role, staged)
        return selection_id

    def export(self, job_id: str, content: str, **of: str) -> None:
        with self.service.database.transaction() as session, self.service.blobs.stage() as staged:
            job = session.get_one(Job, job_id)
            row = exports.create(session, job, 12, format=content, ordered_by="harmful", **of)
            staged.write_text(f"{content} of {self.turn}")
            row.status, row.blob = "succeeded", self.service.blobs.keep(session, staged)


def data(service: Service, name: str) -> str:
    """Inputs that every job of the service is over: made once, and deleted at the end."""
    known: dict[str, str] = service.app.state.__dict__.setdefault("known", {})
    if name not in known and name == "trajectory_id":
        known[name] = service.trajectory()["id"]
        service.accept(service.checkpoint(known[name], 10)["id"])
    elif name not in known:
        known[name] = service.upload()["id"]
        service.validate(known[name])
    return known[name]


def selections_of_two_jobs(service: Service, turn: int) -> list[str]:
    made = Made(service, turn)
    found = []
    for formats in (("csv", "jsonl"), ("jsonl", "csv")):
        selection_id = made.selection(job_id := made.job())
        for one in formats:
            made.export(job_id, one, selection_id=selection_id)
        found.append(f"/v1/selections/{selection_id}")
    return found


def jobs_with_all_that_came_of_them(service: Service, turn: int) -> list[str]:
    return [path.replace("selections", "jobs") for path in _jobs(service, turn)]


def _jobs(service: Service, turn: int) -> list[str]:
    made = Made(service, turn)
    found = []
    for formats in (("csv", "jsonl"), ("jsonl", "csv")):
        job_id = made.job()
        for one in formats:
            made.export(job_id, one)
        made.selection(job_id)
        found.append(f"/v1/jobs/{job_id}")
    return found


def an_export_and_a_job(service: Service, turn: int) -> list[str]:
    first, second = _jobs(service, turn)
    with service.database.snapshot() as session:
        export_id = session.scalar(select(Export.id).where(Export.job_id == first.rpartition("/")[2]))
    return [f"/v1/exports/{export_id}", second]


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize(
    "pair",
    [
        uploads,
        ready_data_sets,
        waiting_data_sets,
        an_upload_and_its_data_set,
        runs,
        selections_of_two_jobs,
        jobs_with_all_that_came_of_them,
        an_export_and_a_job,
    ],
)
def test_what_is_deleted_at_once_is_gone(
    service: Service, pair: Callable[[Service, int], list[str]], rounds: int
) -> None:
    def delete(path: str) -> int:
        with httpx.Client(base_url=service.url, headers=service.http.headers, timeout=60) as http:
            http.get("/livez")  # connected before they meet
            meeting.wait()
            return http.delete(path).status_code

    answers: list[list[int]] = []
    with ThreadPoolExecutor(2) as pool:
        for turn in range(rounds):
            paths, meeting = pair(service, turn), threading.Barrier(2)
            answers.append(list(pool.map(delete, paths)))
    assert answers == [[204, 204]] * rounds
    left_over(service)


def left_over(service: Service) -> None:
    """Deletes what is left one by one; then no bytes are, in the tables or on the disk."""
    for noun in ("jobs", "trajectories", "datasets", "uploads"):
        for row in service.http.get(f"/v1/{noun}", params={"limit": 1000}).json()["data"]:
            if noun == "jobs" and row["status"] != "succeeded":
                service.http.post(f"/v1/jobs/{row['id']}/cancel")
            assert service.http.delete(f"/v1/{noun}/{row['id']}").status_code == 204
    with service.database.snapshot() as session:
        assert session.scalars(select(Blob.sha256)).all() == []
    kept = [path for path in service.blobs.folder.rglob("*") if path.is_file()]
    assert kept == []
