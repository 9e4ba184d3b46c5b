"""What is deleted between the reading of its row and the opening of its file is not there: 404, as a moment
later. A file that is gone although its row is not was lost, and the operator hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from app.store import chosen, columns, exports, selections
from app.store.db import new_id, utcnow
from app.store.influences import strongest
from app.store.places import Place
from app.store.tables import Job, Selection
from tests import buckets
from tests.api.front_end import KEY, N, Service, bearer, listening, problem, request_of

MATRIX = np.ones((N, 2), np.float32)


class Between:
    """A place that does something first, once, when it is asked for bytes."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.first: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.place, name)

    def _act(self) -> None:
        first, self.first = self.first, lambda: None
        first()

    def path(self, location: str) -> Path:
        self._act()
        return self.place.path(location)

    def read(self, location: str, start: int, stop: int) -> Iterator[bytes]:
        self._act()
        return self.place.read(location, start, stop)


@pytest.fixture(params=["disk", "s3"])
def blob_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "disk":
        return (tmp_path / "blobs").as_uri()
    return f"s3://{buckets.reached(request.getfixturevalue('s3_server'), monkeypatch)}"


@pytest.fixture
def service(database_url: str, blob_url: str, tmp_path: Path) -> Iterator[Service]:
    """A front end on each database, with its files in each kind of place; it answers failures as a server."""
    settings = Settings(
        data_dir=tmp_path, database_url=database_url, blob_url=blob_url, api_key=SecretStr(KEY)
    )
    app = create_app(settings)
    app.state.blobs.place = Between(app.state.blobs.place)
    with listening(app) as url, httpx.Client(base_url=url, timeout=30) as http:
        service = Service(app, settings, http, project_id := new_id("project"))
        service.make_key(project_id, "admin")
        http.headers.update(bearer(project_id))
        yield service


# ---- what there is to read: its path, and what is read below it
def dataset(service: Service) -> str:
    dataset_id = service.upload()["id"]
    service.validate(dataset_id, ids=np.array([f"row-{at}" for at in range(N)]))
    return f"/v1/datasets/{dataset_id}"


def job(service: Service) -> str:
    data, run = service.upload()["id"], service.trajectory()["id"]
    service.validate(data)
    service.accept(service.checkpoint(run, 10)["id"])
    inputs = {"trajectory_id": run, "train_dataset_id": data, "query_dataset_id": data}
    job_id: str = service.http.post("/v1/jobs", json=request_of(inputs)).json()["id"]
    service.succeed(job_id)
    ranked = strongest(MATRIX, np.array([0, 2]), 3)
    with service.database.transaction() as session:
        row = session.get_one(Job, job_id)
        for name, array in (("influences_blob", MATRIX), ("ranked_blob", ranked)):
            with service.blobs.stage() as staged:
                with staged.open("wb") as file:
                    np.save(file, array)
                setattr(row, name, service.blobs.keep(session, staged))
        with service.blobs.stage() as staged:
            columns.write(staged, {"score": np.sin(np.arange(N))})
            columns.keep(session, service.blobs, job_id, staged)
    return f"/v1/jobs/{job_id}"


def selection(service: Service) -> str:
    made = service.http.post(f"{job(service)}/selections", json={"type": "clean", "size": 1})
    selection_id: str = made.json()["id"]
    with service.database.transaction() as session, service.blobs.stage() as a, service.blobs.stage() as b:
        row = session.get_one(Selection, selection_id)
        chosen.write(a, chosen.rows(np.zeros(N, np.uint8), {"sample_index": np.arange(N)}))
        b.write_bytes(b"tensors")
        selections.keep(session, service.blobs, row, selections.ROWS, a)
        selections.keep(session, service.blobs, row, selections.CHECKPOINT, b)
        row.status = "succeeded"
    return f"/v1/selections/{selection_id}"


def export(service: Service) -> str:
    job_id = job(service).rpartition("/")[2]
    with service.database.transaction() as session, service.blobs.stage() as staged:
        row = exports.create(session, session.get_one(Job, job_id), N, format="csv", ordered_by="harmful")
        staged.write_text("index,score\n")
        row.status, row.blob, row.finished_at = "succeeded", service.blobs.keep(session, staged), utcnow()
        return f"/v1/exports/{row.id}"


READS = [
    (export, "/content"),
    (dataset, "/samples"),
    (dataset, "/samples/3"),
    (dataset, "/samples/3/content"),
    (job, "/summary"),
    (job, "/queries/2/influences"),
    (job, "/influences/content"),
    (selection, "/checkpoint"),
    (selection, "/samples"),
    (selection, "/manifest"),
]


@pytest.mark.parametrize(("made", "below"), READS, ids=lambda one: getattr(one, "__name__", one))
def test_what_is_deleted_while_it_is_read_is_not_found(
    service: Service, made: Callable[[Service], str], below: str
) -> None:
    path = made(service)
    statuses: list[int] = []
    between = service.app.state.blobs.place
    between.first = lambda: statuses.append(service.http.delete(path).status_code)
    answer = service.http.get(path + below)
    assert statuses == [204], "it was deleted in between"
    problem(answer, 404, "not_found")


def test_a_page_that_is_deleted_while_it_is_read_says_so_to_people(service: Service) -> None:
    path = dataset(service)
    with httpx.Client(base_url=service.url) as browser:
        origin = {"Origin": service.url.rstrip("/")}
        browser.post("/sign-in", data={"key": service.project_id, "next": "/"}, headers=origin)
        between = service.app.state.blobs.place
        between.first = lambda: service.http.delete(path)
        answer = browser.get(path.removeprefix("/v1"), headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html") and "deleted" in answer.text


def test_a_lost_file_is_the_services_own_failure(service: Service) -> None:
    path, place = dataset(service), service.app.state.blobs.place
    service.app.state.blobs.place.remove(*list(place.old(-60)))
    problem(service.http.get(f"{path}/samples"), 500, "internal_error")


def test_content_that_came_anew_meanwhile_is_not_what_was_read(service: Service) -> None:
    path, between = dataset(service), service.app.state.blobs.place

    def anew() -> None:
        service.http.delete(path)
        dataset(service)

    between.first = anew
    answer = service.http.get(f"{path}/samples")
    if between.remote:
        assert answer.status_code == 200  # the copy on this machine is of the same bytes
    else:
        problem(answer, 404, "not_found")
