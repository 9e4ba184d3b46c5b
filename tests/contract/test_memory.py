"""What options make a worker hold stays within DIFFIN_MEMORY_BYTES, and changes no score."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.torch import save

from tests import services, walk
from tests.services import Service

MIB = 1024**2
WIDTHS = (64, 3000, 10)  # 225,010 parameters: 0.9 MB a vector
CONFIG = {"in_features": 64, "hidden": [3000], "num_classes": 10}


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with services.embedded(tmp_path_factory.mktemp("tight"), MEMORY_BYTES=str(16 * MIB)) as service:
        yield service


@pytest.fixture(scope="module")
def client(tight: Service) -> Iterator[httpx.Client]:
    with tight.client() as client:
        yield client


@pytest.fixture(scope="module")
def ask(client: httpx.Client) -> dict[str, Any]:
    x, y = walk.digits(60)
    run = walk.trajectory(client, config=CONFIG)
    for step in (5, 10):
        walk.checkpoint(client, run, save(walk.mlp_state(step, WIDTHS)), step)
    data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    return {"trajectory_id": run, "train": data, "query": data}


def ended(client: httpx.Client, ask: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return walk.finished(client, walk.ok(walk.post_job(client, **ask, **fields), 202)["id"])


def test_lanczos_vectors_that_fit_are_kept_and_others_refused(
    client: httpx.Client, ask: dict[str, Any]
) -> None:
    method = {"name": "diff_in", "hessian_samples": 4, "lanczos_steps": 15}
    assert ended(client, ask, method=method)["status"] == "succeeded"
    refused = walk.ok(walk.post_job(client, **ask, method=method | {"lanczos_steps": 19}), 422)
    assert refused["code"] == "too_much_memory" and "lower lanczos_steps" in refused["detail"]


def test_a_worker_refuses_what_an_older_checkpoint_was_silent_of(
    tight: Service, client: httpx.Client, ask: dict[str, Any]
) -> None:
    run = walk.trajectory(client, config=CONFIG)
    found = walk.checkpoint(client, run, save(walk.mlp_state(5, WIDTHS)), 5)
    with sqlite3.connect(tight.data_dir / "diffin.db", timeout=30) as database:
        forget = "UPDATE checkpoints SET info = json_remove(info, '$.shapes') WHERE id = ?"
        assert database.execute(forget, [found["id"]]).rowcount == 1
    database.close()
    method = {"name": "diff_in", "hessian_samples": 4, "lanczos_steps": 19}
    job = ended(client, ask | {"trajectory_id": run}, method=method)
    assert (job["status"], job["error"]["code"], job["error"]["fault"]) == (
        "failed", "too_much_memory", "user",
    )  # fmt: skip
    assert "lower lanczos_steps" in job["error"]["detail"]


@pytest.mark.slow
def test_queries_are_taken_a_few_at_a_time(client: httpx.Client, ask: dict[str, Any]) -> None:
    """4 MiB hold the vectors of four; eleven are asked, and each has the scores of a job of its own."""
    method = {"name": "diff_in", "hessian_samples": 4, "lanczos_steps": 2}
    job = ended(
        client, ask, method=method | {"per_query": True, "top_k": 60}, selection={"indices": list(range(11))}
    )
    assert job["status"] == "succeeded", job["error"]
    assert job["progress"]["completed"] == job["progress"]["total"]
    content = client.get(f"/v1/jobs/{job['id']}/influences/content").content
    matrix = np.load(io.BytesIO(content))
    assert matrix.shape == (60, 11)
    for query in (0, 4, 10):
        alone = ended(client, ask, method=method, selection={"indices": [query]})
        scores = [row["score"] for row in walk.scores(client, alone["id"])]
        np.testing.assert_allclose(matrix[:, query], scores, rtol=1e-5)
