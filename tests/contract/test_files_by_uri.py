"""Files named by `uri`, the whole way: from a bucket, a folder and the web, into a running service."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from obstore.store import S3Store
from safetensors.torch import save

from app.settings import MIB
from tests import buckets, servers, services, walk
from tests.chaos.processes import kill, worker_of
from tests.chaos.rows import units
from tests.services import Service
from tests.web_store import WebStore, serving

DONE = {"ready", "invalid"}


@dataclass(frozen=True)
class Stores:
    """What the operator of the service allowed, and where that is."""

    service: Service
    bucket: S3Store
    folder: Path
    web: WebStore

    def uri(self, name: str) -> str:
        """Of an object of the bucket."""
        return f"s3://{self.bucket.config['bucket']}/sets/{name}"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, s3_server: str) -> Iterator[Stores]:
    folder, name = tmp_path_factory.mktemp("sets"), buckets.made(s3_server)
    bucket = buckets.store(s3_server, name, "sets")
    with serving() as web:
        prefixes = f"s3://{name}/sets/,file://{folder}/,{web.url}"
        service = services.prepared(
            tmp_path_factory.mktemp("service"), URI_PREFIXES=prefixes, URI_ALLOW="127.0.0.0/8", THREADS="1"
        )
        service.environment.update(servers.s3_environment(s3_server))
        with service.running("api", "serve"):
            service.wait_until_ready()
            yield Stores(service, bucket, folder, web)


@pytest.fixture
def client(stores: Stores) -> Iterator[httpx.Client]:
    with stores.service.client() as client:
        yield client


def dataset(client: httpx.Client, uri: str, **told: Any) -> str:
    made = walk.ok(client.post("/v1/datasets", json={"name": "d", "uri": uri} | told), 202)
    return f"/v1/datasets/{made['id']}"


def test_a_job_is_done_over_what_was_named_where_it_lies(stores: Stores, client: httpx.Client) -> None:
    x, y = walk.digits(60)
    content = walk.npz(inputs=x, targets=y)
    obstore.put(stores.bucket, "my digits.npz", content)
    (stores.folder / "query.npz").write_bytes(walk.npz(inputs=x[:20], targets=y[:20]))
    run = walk.trajectory(client)
    found = []
    for step in (10, 20):
        stores.web.content = save(walk.mlp_state(step))
        told = {"uri": f"{stores.web.url}runs/{step}.safetensors", "step": step, "learning_rate": 0.1}
        made = walk.ok(client.post(f"/v1/trajectories/{run}/checkpoints", json=told), 202)
        path = f"/v1/trajectories/{run}/checkpoints/{made['id']}"
        found.append(walk.until(client, path, DONE))
        assert (found[-1]["status"], found[-1]["uri"]) == ("ready", told["uri"])
        assert found[-1]["sha256"] == hashlib.sha256(stores.web.content).hexdigest()
    train = walk.until(client, dataset(client, stores.uri("my digits.npz")), DONE)
    query = walk.until(client, dataset(client, f"file://{stores.folder}/query.npz"), DONE)
    assert (train["status"], train["bytes"], train["num_samples"]) == ("ready", len(content), 60)
    assert train["sha256"] == hashlib.sha256(content).hexdigest()
    job = walk.ok(walk.post_job(client, run, train["id"], query["id"]), 202)
    assert walk.finished(client, job["id"])["status"] == "succeeded"

    sent = walk.dataset(client, content)  # the same as an upload
    assert {**sent, "id": "", "uri": "", "filename": "", "created_at": ""} == {
        **train, "id": "", "uri": "", "filename": "", "created_at": ""
    }  # fmt: skip


def test_what_was_fetched_is_read_behind_the_fence_and_refused_in_words(
    stores: Stores, client: httpx.Client
) -> None:
    obstore.put(stores.bucket, "pickle.npz", walk.npz(inputs=[{}, None], targets=[0, 1]))
    refused = walk.until(client, dataset(client, stores.uri("pickle.npz")), DONE)
    assert (refused["status"], refused["error"]["code"]) == ("invalid", "unsafe_file")
    absent = walk.until(client, dataset(client, stores.uri("absent.npz")), DONE)
    assert (absent["status"], absent["error"]["code"]) == ("invalid", "source_not_found")
    assert absent["error"]["fault"] == "user" and absent["sha256"] is None


@pytest.mark.slow
def test_a_killed_worker_costs_no_file(stores: Stores, client: httpx.Client) -> None:
    x, y = walk.digits(300)
    content = walk.npz(inputs=x, targets=y)
    coming, go_on, web = threading.Event(), threading.Event(), stores.web

    def before(sent: int) -> None:
        if sent:
            coming.set()
            go_on.wait(60)

    web.content, web.before = content, before
    web.asked.clear()
    path = dataset(client, f"{web.url}digits.npz")
    assert coming.wait(30)
    unit = units(stores.service, path.rpartition("/")[2])[0]
    assert (unit.kind, unit.status, unit.total) == ("fetch", "running", len(content))
    kill(worker_of(stores.service.process.pid))
    go_on.set()
    ready = walk.until(client, path, DONE)
    assert (ready["status"], ready["sha256"]) == ("ready", hashlib.sha256(content).hexdigest())
    assert len(web.asked) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "web"])
def test_memory_does_not_grow_with_the_file(stores: Stores, client: httpx.Client, kind: str) -> None:
    content = bytes(100 * MIB)
    stores.web.content, stores.web.before = content, lambda _sent: None
    if kind == "s3":
        obstore.put(stores.bucket, "zeros.npz", content)
    worker = Path(f"/proc/{worker_of(stores.service.process.pid)}")
    (worker / "clear_refs").write_text("5")  # the most that it ever had is forgotten
    before = most_memory(worker)
    uri = stores.uri("zeros.npz") if kind == "s3" else f"{stores.web.url}zeros.npz"
    refused = walk.until(client, dataset(client, uri), DONE)
    assert (refused["bytes"], refused["error"]["code"]) == (len(content), "corrupt_file")
    assert most_memory(worker) - before < 50 * MIB


def most_memory(process: Path) -> int:
    """Of memory in use, bytes at most."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
