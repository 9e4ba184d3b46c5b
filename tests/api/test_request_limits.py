"""Limits of requests, on a front end that runs by itself: how often, large, slow and many; quotas."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from app.api.middleware import BodyLimit
from app.settings import Quota, Settings
from tests import services
from tests.api.front_end import RUN, listening, npz, problem
from tests.services import Service

RATE, BURST = 50.0, 120
HEAD_SECONDS = BODY_SECONDS = 4.0
MANY = 1000


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`diffin api` alone, with limits that a test reaches."""
    quotas = {"small": {"bytes": 100_000, "jobs_queued": 0}}
    service = services.prepared(
        tmp_path_factory.mktemp("limited"),
        REQUESTS_PER_SECOND=str(RATE),
        REQUEST_BURST=str(BURST),
        HEAD_SECONDS=str(HEAD_SECONDS),
        BODY_SECONDS=str(BODY_SECONDS),
        PROJECT_QUOTAS=json.dumps(quotas),
    )
    service.migrate()
    with service.running("api", "api"):
        services.wait_for_http(service)
        yield service


def key_of(limited: Service, project: str) -> httpx.Client:
    """A client with a fresh key of this project."""
    asked = {"name": "a", "scopes": ["read", "write"], "project_id": project}
    with limited.client() as operator:
        made = operator.post("/v1/api-keys", json=asked).raise_for_status().json()
    return httpx.Client(base_url=limited.url, headers={"Authorization": f"Bearer {made['key']}"}, timeout=30)


def test_a_key_that_asks_too_often_waits_and_others_do_not(limited: Service) -> None:
    with key_of(limited, "busy") as busy, key_of(limited, "calm") as calm, ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        answers = list(pool.map(lambda _: busy.get("/v1/uploads"), range(4 * BURST)))
        elapsed = time.monotonic() - started
        accepted = [one for one in answers if one.status_code == 200]
        refused = [one for one in answers if one.status_code != 200]
        assert BURST <= len(accepted) <= BURST + RATE * elapsed + 1
        if not refused:  # the machine was slower than the limit
            pytest.skip(f"{len(answers)} requests took {elapsed:.1f} s")
        body = problem(refused[-1], 429, "too_many_requests")
        assert "times a second" in body["detail"]
        assert calm.get("/v1/uploads").status_code == 200
        time.sleep(int(refused[-1].headers["retry-after"]))
        assert busy.get("/v1/uploads").status_code == 200


def test_the_default_allows_fifty_requests_a_second() -> None:
    fields = Settings.model_fields
    assert fields["requests_per_second"].default >= 50
    assert fields["request_burst"].default >= fields["requests_per_second"].default


def test_too_many_or_too_large_headers_are_refused(limited: Service) -> None:
    many = {f"X-{n}": "y" for n in range(200)}
    problem(httpx.get(f"{limited.url}/livez", headers=many), 431, "too_many_headers")
    problem(httpx.get(f"{limited.url}/livez", headers={"X-Large": "y" * 50_000}), 431, "headers_too_large")


def test_a_thousand_idle_and_slow_connections_keep_nobody_out(limited: Service) -> None:
    """Idle from the start, with a request line that never ends, and with a body that drips."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    host, port = limited.url.removeprefix("http://").split(":")
    drip = (
        f"POST /v1/trajectories HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {limited.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    beginnings = [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ", drip.encode()]
    with ExitStack() as opened, limited.client() as client:
        sockets = []
        for n in range(MANY):
            one = opened.enter_context(socket.create_connection((host, int(port)), timeout=30))
            one.sendall(beginnings[n % 3 if n < 300 else n % 2])  # drips come with the key: within its burst
            sockets.append(one)
        started = time.monotonic()
        for _ in range(10):
            assert client.get("/livez").status_code == 200
            assert client.get("/v1/uploads").status_code in (200, 429)
        assert time.monotonic() - started < HEAD_SECONDS
        answers = [received(one) for one in sockets]  # each ends: the server hangs up
        told = [text for text in answers if text]
        assert len(told) == 100
        assert all(b" 408 " in text or b" 429 " in text for text in told)
        assert client.get("/livez").status_code == 200


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side hangs up."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def test_an_answer_may_take_longer_than_a_body() -> None:
    """Event streams go on: only what a client sends is timed."""
    app = FastAPI()
    app.add_middleware(BodyLimit, most=1024, seconds=0.2)

    async def slowly() -> AsyncIterator[str]:
        for _ in range(5):
            await asyncio.sleep(0.15)
            yield "x"

    app.add_api_route("/slow", lambda: StreamingResponse(slowly()), methods=["GET", "POST"])
    with listening(app) as url:
        assert httpx.get(f"{url}/slow").text == httpx.post(f"{url}/slow", content=b"y").text == "xxxxx"


def test_a_project_keeps_no_more_bytes_than_its_quota(limited: Service) -> None:
    content = npz(np.zeros((1000, 4)), np.zeros(1000, np.int64))  # 40 kB
    with key_of(limited, "small") as small, key_of(limited, "large") as large:

        def send(client: httpx.Client, name: str, content: bytes = content) -> httpx.Response:
            return client.post("/v1/datasets", files={"file": ("a.npz", content)}, data={"name": name})

        first = send(small, "first")
        assert first.status_code == 202, first.text
        assert send(small, "the same bytes again").status_code == 202  # kept once, counted once
        refused = problem(send(small, "too many", content + b"x" * 30_000), 403, "quota_exceeded")
        assert "100,000 bytes" in refused["detail"]

        body = {"filename": "a.npz", "bytes": 70_000}
        problem(small.post("/v1/uploads", json=body), 403, "quota_exceeded")
        upload = small.post("/v1/uploads", json=body | {"bytes": 20_000})
        assert upload.status_code == 201
        problem(small.post("/v1/uploads", json=body | {"bytes": 50_000}), 403, "quota_exceeded")
        assert send(large, "no quota", content + b"x" * 90_000).status_code == 202


def test_no_more_jobs_wait_than_may(limited: Service) -> None:
    with key_of(limited, "small") as small:
        answer = small.post("/v1/jobs", json=job_of())
        assert problem(answer, 429, "quota_exceeded")
        assert answer.headers["retry-after"] == "30"


def job_of() -> dict[str, Any]:
    network, task = {"name": "linear", "config": {"in_features": 4, "num_classes": 3}}, RUN["task"]
    recipe = {"schedule": {"name": "constant", "learning_rate": 0.1}, "batch_size": 5, "epochs": 2}
    data = {"train_dataset_id": "ds_1", "recipe": recipe}
    return {"type": "train", "architecture": network, "task": task} | data


def test_a_project_may_have_quotas_of_its_own() -> None:
    settings = Settings(project_bytes=10, project_jobs_running=2, project_quotas={"a": Quota(bytes=None)})
    assert settings.quota("b") == Quota(bytes=10, jobs_running=2)
    assert settings.quota("a") == Quota(bytes=None, jobs_running=2)
