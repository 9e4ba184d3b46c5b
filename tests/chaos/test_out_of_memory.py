"""A worker whose memory runs out in a chunk takes smaller ones, or says so in words to act on.

The limit is the system's (RLIMIT_DATA of the running worker).
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests import services, walk
from tests.chaos.processes import worker_of
from tests.chaos.test_poison import wide_run
from tests.services import Service

MIB = 1024**2
SIDE, SAMPLES = 96, 40
CNN: dict[str, Any] = {"in_channels": 1, "channels": [32, 32], "num_classes": 3}

pytestmark = pytest.mark.slow


def held(pid: int) -> int:
    """Bytes of memory of its own that a process has asked for."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:")) * 1024


@contextmanager
def room(service: Service, mib: int) -> Iterator[None]:
    """The worker may have so much more memory than it has, until the end of the block."""
    pid = worker_of(service.process.pid)
    before = resource.prlimit(pid, resource.RLIMIT_DATA)
    limit = held(pid) + mib * MIB
    resource.prlimit(pid, resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
        assert worker_of(service.process.pid) == pid, "the worker died"
    finally:
        resource.prlimit(pid, resource.RLIMIT_DATA, before)


def state(seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "convs.0.weight": (32, 1, 3, 3),
        "convs.0.bias": (32,),
        "convs.1.weight": (32, 32, 3, 3),
        "convs.1.bias": (32,),
        "layers.0.weight": (3, 32),
        "layers.0.bias": (3,),
    }
    return {name: 0.1 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, dict[str, str], np.ndarray]]:
    """A service, a question whose chunks take about 1 GiB, and its scores with memory enough."""
    folder = tmp_path_factory.mktemp("memory")
    with (
        services.embedded(folder, THREADS="1", LEASE_SECONDS="3", MAX_ATTEMPTS="2") as service,
        service.client() as client,
    ):
        inputs = np.random.default_rng(0).random((SAMPLES, 1, SIDE, SIDE), np.float32)
        data = walk.dataset(client, walk.npz(inputs=inputs, targets=np.arange(SAMPLES) % 3))["id"]
        run = walk.trajectory(client, "cnn", CNN)
        for step in (10, 20):
            assert walk.checkpoint(client, run, save(state(step)), step)["status"] == "ready"
        question = {"trajectory_id": run, "train": data, "query": data}
        yield service, question, scores(client, answered(client, question))


def answered(client: httpx.Client, question: dict[str, str]) -> dict[str, Any]:
    return walk.finished(
        client, walk.ok(walk.post_job(client, **question, method={"name": "tracin"}), 202)["id"]
    )


def scores(client: httpx.Client, job: dict[str, Any]) -> np.ndarray:
    assert job["status"] == "succeeded", job["error"]
    return np.array([row["score"] for row in walk.scores(client, job["id"])])


def test_a_chunk_that_finds_no_memory_is_halved(asked: tuple[Service, dict[str, str], np.ndarray]) -> None:
    service, question, expected = asked
    with service.client() as client, room(service, 120):
        job = answered(client, question)
        found = scores(client, job)
    assert job["attempt"] == 1, "the unit went on, it was not tried again"
    assert (found != expected).any(), "no chunk was halved: the limit is not felt"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_what_does_not_fit_at_all_ends_in_words_to_act_on(
    asked: tuple[Service, dict[str, str], np.ndarray],
) -> None:
    service, question, expected = asked
    with service.client() as client:
        x, y = walk.digits(50)
        data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        wide = {"trajectory_id": wide_run(client), "train": data, "query": data}
        with room(service, 8):
            error = answered(client, wide)["error"]
        assert (error["code"], error["fault"]) == ("worker_out_of_memory", "service")
        assert "DIFFIN_MEMORY_BYTES" in error["detail"] and "smaller network" in error["detail"]
        assert (scores(client, answered(client, question)) == expected).all(), "the worker is as good as new"
