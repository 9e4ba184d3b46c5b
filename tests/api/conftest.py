"""Fixtures of the front end: a server on a free port, a project of the test's own, inputs and a job."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from app.store.db import new_id
from tests.api.front_end import KEY, MAX_UPLOAD, URI_PREFIXES, Service, bearer, listening, request_of


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Settings:
    folder = tmp_path_factory.mktemp("api")
    database = shutil.copy(sqlite_template, folder / "diffin.db")
    return Settings(
        data_dir=folder,
        database_url=f"sqlite:///{database}",
        api_key=SecretStr(KEY),
        max_upload_bytes=MAX_UPLOAD,
        max_body_bytes=64 * 1024,
        uri_prefixes=URI_PREFIXES,
    )


@pytest.fixture(scope="session")
def front_end(settings: Settings) -> Iterator[tuple[FastAPI, str]]:
    """The application and its address, shared by the tests of the session."""
    app = create_app(settings)
    with listening(app) as url:
        yield app, url


@pytest.fixture
def service(settings: Settings, front_end: tuple[FastAPI, str]) -> Iterator[Service]:
    """The front end as seen from a project of the test's own: another test's records are not there."""
    app, url = front_end
    project_id = new_id("project")
    with httpx.Client(base_url=url, headers=bearer(project_id), timeout=30) as http:
        service = Service(app, settings, http, project_id)
        service.make_key(project_id, "admin")
        yield service
    assert service.staged() == [], "something was left in staging"


@pytest.fixture
def inputs(service: Service) -> dict[str, str]:
    """The ids of inputs that are ready: `trajectory_id`, `train_dataset_id`, `query_dataset_id`."""
    ids = {}
    for role in ("train", "query"):
        ids[f"{role}_dataset_id"] = service.upload(name=role)["id"]
        service.validate(ids[f"{role}_dataset_id"])
    ids["trajectory_id"] = service.trajectory()["id"]
    for step in (20, 10):  # in any order
        service.accept(service.checkpoint(ids["trajectory_id"], step)["id"])
    return ids


@pytest.fixture
def job(service: Service, inputs: dict[str, str]) -> dict[str, Any]:
    """A queued job."""
    answer = service.http.post("/v1/jobs", json=request_of(inputs))
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body
