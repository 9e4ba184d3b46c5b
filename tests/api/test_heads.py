"""HEAD is answered as GET is, without what follows the headers; addresses lead nowhere else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse

from app.api.middleware import Heads
from tests.api.front_end import Service, listening, problem

KEPT = ("content-type", "content-length", "etag", "cache-control")


@pytest.mark.parametrize(
    "path", ["/v1/datasets", "/v1/jobs/{job}", "/livez", "/sign-in", "/docs", "/v1/openapi.json"]
)
def test_head_is_answered_as_get_is(service: Service, job: dict[str, Any], path: str) -> None:
    path = path.format(job=job["id"])
    got, head = service.http.get(path), service.http.head(path)
    assert got.status_code == head.status_code == 200
    assert head.content == b"" != got.content
    assert {name: head.headers.get(name) for name in KEPT} == {name: got.headers.get(name) for name in KEPT}


def test_head_is_refused_where_get_is(service: Service) -> None:
    assert httpx.head(f"{service.url}/v1/jobs").status_code == 401
    assert service.http.head("/v1/jobs/job_none").status_code == 404
    assert service.http.head("/v1/jobs/estimate").status_code == 404
    assert service.http.head("/sign-out").status_code == 405
    etag = {"If-None-Match": service.http.get(f"/v1/datasets/{service.upload()['id']}").headers["etag"]}
    [one] = service.http.get("/v1/datasets").json()["data"]
    assert service.http.head(f"/v1/datasets/{one['id']}", headers=etag).status_code == 304


def test_the_head_of_a_stream_is_not_waited_for(service: Service, job: dict[str, Any]) -> None:
    started = time.monotonic()
    path = f"/v1/jobs/{job['id']}/events"
    answer = service.http.head(path, headers={"Accept": "text/event-stream", "Last-Event-ID": "999999"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert time.monotonic() - started < 5
    counted = service.http.get("/metrics").text
    assert 'method="HEAD",route="/v1/jobs/{job_id}/events"' in counted


def test_the_head_of_a_file_tells_its_size_and_the_connection_goes_on(tmp_path: Path) -> None:
    (file := tmp_path / "large").write_bytes(b"x" * 3_000_000)
    app = FastAPI()
    app.add_middleware(Heads)
    app.add_api_route("/file", lambda: FileResponse(file))
    with listening(app) as url, httpx.Client(base_url=url) as http:
        for _ in range(3):
            assert http.head("/file").headers["content-length"] == "3000000"
            assert len(http.get("/file").content) == 3_000_000


@pytest.mark.parametrize("path", ["/v1/jobs/", "/sign-in/", "/jobs/", "//evil.example/jobs/", "/docs/"])
def test_no_address_leads_to_the_host_that_a_request_names(service: Service, path: str) -> None:
    """A slash too many is told so; a redirect would be to whatever the Host header says."""
    answer = service.http.get(f"{service.url.rstrip('/')}{path}", headers={"Host": "evil.example"})
    problem(answer, 404, "not_found")
    assert "location" not in answer.headers
