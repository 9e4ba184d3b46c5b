"""Life, readiness, metrics, and what the deployment offers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from app.store import workers
from tests.api.front_end import Service, listening, problem, request_of


@pytest.fixture
def worker(service: Service) -> Iterator[None]:
    """A live worker's heartbeat."""
    with service.database.transaction() as session:
        workers.beat(session, "worker-1", ["cpu", "gpu"], "cpu", "0.1.0")
    yield
    with service.database.transaction() as session:
        workers.gone(session, "worker-1")


def anonymous(service: Service, path: str) -> httpx.Response:
    return httpx.get(f"{service.url}{path}")


def metric(text: str, name: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).rpartition(" ")[2])


def test_a_live_process_says_so(service: Service) -> None:
    assert anonymous(service, "/livez").json() == {"status": "alive"}


def test_the_service_is_ready_with_a_worker(service: Service, worker: None) -> None:
    body = anonymous(service, "/readyz").json()
    assert body == {
        "status": "ready",
        "checks": {"database": "ok", "storage": "ok", "queue": "ok", "worker": "ok"},
    }


def test_without_a_worker_the_service_is_not_ready_and_says_how_to_mend_it(service: Service) -> None:
    body = problem(anonymous(service, "/readyz"), 503, "not_ready")
    assert body["checks"]["database"] == "ok"
    assert "diffin worker" in body["checks"]["worker"]


def test_a_service_whose_parts_are_gone_is_alive_and_not_ready(tmp_path: Path, sqlite_url: str) -> None:
    settings = Settings(
        data_dir=tmp_path,
        database_url=sqlite_url,
        broker_url="redis://127.0.0.1:1/0",  # nobody listens there
        api_key=SecretStr("k"),
    )
    with listening(create_app(settings)) as url:
        (tmp_path / "blobs" / "staging").rmdir()
        assert httpx.get(f"{url}/livez").status_code == 200
        body = problem(httpx.get(f"{url}/readyz", timeout=30), 503, "not_ready")
        assert body["checks"]["database"] == "ok"
        assert body["checks"]["storage"] != "ok"
        assert body["checks"]["queue"] != "ok"


def test_requests_are_counted_by_route_and_not_by_id(service: Service) -> None:
    name = 'diffin_requests_total{method="GET",route="/v1/jobs/{job_id}",status="404"}'
    service.http.get("/v1/jobs/job_a")
    before = metric(anonymous(service, "/metrics").text, name)
    service.http.get("/v1/jobs/job_b")
    text = anonymous(service, "/metrics").text
    assert metric(text, name) == before + 1
    assert "job_b" not in text
    assert metric(text, 'diffin_request_seconds_count{method="GET",route="/v1/jobs/{job_id}"}') > 0


def test_jobs_and_queues_are_measured(service: Service, inputs: dict[str, str], worker: None) -> None:
    def measured(name: str) -> float:
        return metric(anonymous(service, "/metrics").text, name)

    service.http.post("/v1/jobs", json=request_of(inputs)).raise_for_status()
    queued, depth = measured('diffin_jobs{status="queued"}'), measured('diffin_queue_depth{kind="plan"}')
    service.http.post("/v1/jobs", json=request_of(inputs)).raise_for_status()
    assert measured('diffin_jobs{status="queued"}') == queued + 1
    assert measured('diffin_queue_depth{kind="plan"}') == depth + 1
    assert measured('diffin_queue_oldest_seconds{kind="plan"}') > 0
    assert measured("diffin_workers_alive") == 1


def test_capabilities_tell_what_may_be_asked(service: Service, worker: None) -> None:
    body = service.http.get("/v1/capabilities").json()
    assert set(body["methods"]) >= {"diff_in", "diff_in_eq9", "tracin", "loss"}
    assert set(body["architectures"]) >= {"linear", "mlp", "cnn", "resnet", "transformer"}
    assert set(body["formats"]) == {
        *("npz", "safetensors", "parquet", "csv", "jsonl", "imagefolder", "webdataset")
    }
    assert body["limits"]["max_upload_bytes"] == service.settings.max_upload_bytes
    assert body["devices"] == ["cpu"]
    assert body["version"]


@pytest.mark.parametrize("path", ["methods", "architectures"])
def test_the_catalog_is_listed_with_its_schemas(service: Service, path: str) -> None:
    body: dict[str, Any] = service.http.get(f"/v1/{path}").json()
    assert body["next_cursor"] is None
    for entry in body["data"]:
        assert entry["name"] and entry["title"] and entry["description"]
        assert entry["schema"]["type"] == "object"
