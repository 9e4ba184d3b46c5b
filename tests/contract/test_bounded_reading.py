"""Uploads are read in a process of their own, within bounds: what goes wrong there ends no worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from tests import services, walk
from tests.chaos.processes import children, kill, worker_of
from tests.contract import test_graphs as graphs
from tests.services import Service

MIB = 1024**2
ENDS = {"ready", "invalid"}
LONG = b"a,b,label\n" + b"1.25,2.5,0\n2.5,5,1\n" * 60_000  # long enough to find its reader


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    bounds = {"READER_MEMORY_BYTES": str(64 * MIB), "READER_SECONDS": "10", "LEASE_SECONDS": "2"}
    with services.embedded(tmp_path_factory.mktemp("strict"), **bounds) as service:
        yield service


def reader(service: Service) -> int:
    """The process that reads a file right now, once there is one."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        [fence] = children(worker_of(service.process.pid))
        if reading := children(fence):
            return reading[0]
    raise AssertionError("no file is being read")


def sent(client: httpx.Client) -> str:
    """The path of a data set that takes a while to be read."""
    posted = walk.ok(walk.post_dataset(client, LONG, "long.csv", format="csv"), 202)
    return f"/v1/datasets/{posted['id']}"


def refusal(found: dict[str, Any]) -> str:
    assert found["status"] == "invalid"
    assert (found["error"]["code"], found["error"]["fault"]) == ("unsafe_file", "user")
    detail: str = found["error"]["detail"]
    return detail


def lives_on(client: httpx.Client) -> None:
    small = walk.npz(inputs=np.ones((4, 2), dtype=np.float32), targets=np.arange(4))
    assert walk.dataset(client, small)["status"] == "ready"


def test_what_takes_too_much_memory_is_refused(strict: Service) -> None:
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [20 * MIB], bytes(80 * MIB), raw=True)
    graph = onnx.helper.make_graph([], "g", [], [], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    with strict.client() as client:
        worker = worker_of(strict.process.pid)
        made = walk.ok(graphs.post(client, model.SerializeToString()), 201)
        [file] = graphs.settled(client, made["id"])["files"]
        assert "more than 64 MiB of memory" in refusal(file)
        lives_on(client)
        assert worker_of(strict.process.pid) == worker


def test_what_hangs_is_ended(strict: Service) -> None:
    with strict.client() as client:
        path, worker = sent(client), worker_of(strict.process.pid)
        os.kill(reader(strict), signal.SIGSTOP)
        assert "took more than" in refusal(walk.until(client, path, ENDS))
        lives_on(client)
        assert worker_of(strict.process.pid) == worker


def test_a_crash_is_the_files(strict: Service) -> None:
    with strict.client() as client:
        path, worker = sent(client), worker_of(strict.process.pid)
        os.kill(reader(strict), signal.SIGSEGV)
        assert "crashed its reader (SIGSEGV)" in refusal(walk.until(client, path, ENDS))
        lives_on(client)
        assert worker_of(strict.process.pid) == worker


def test_a_reader_killed_from_outside_is_nobodys_fault(strict: Service) -> None:
    with strict.client() as client:
        path, worker = sent(client), worker_of(strict.process.pid)
        kill(reader(strict))
        assert walk.until(client, path, ENDS)["status"] == "ready"
        assert worker_of(strict.process.pid) == worker


@pytest.mark.slow
def test_a_worker_without_its_fence_makes_room_for_another(strict: Service) -> None:
    with strict.client() as client:
        path, worker = sent(client), worker_of(strict.process.pid)
        assert reader(strict)
        [fence] = children(worker)
        kill(fence)
        assert walk.until(client, path, ENDS)["status"] == "ready"
        assert worker_of(strict.process.pid) != worker
