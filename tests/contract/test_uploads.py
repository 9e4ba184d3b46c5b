"""Files in parts on the running service: data set, graph and checkpoint, and a job over what they became."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest
from safetensors.numpy import save

from tests import walk
from tests.contract.test_graphs import RUN, graph, tensors
from tests.services import Service

PART = 64 * 1024


@pytest.fixture(params=["embedded_service", "production_service"], ids=["embedded", "production"])
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    service: Service = request.getfixturevalue(request.param)
    with service.client() as client:
        yield client


def uploaded(client: httpx.Client, content: bytes, filename: str) -> str:
    """The id of a complete upload, its parts sent from the last to the first."""
    body = {"filename": filename, "bytes": len(content), "part_bytes": PART}
    begun = walk.ok(client.post("/v1/uploads", json=body), 201)
    path = f"/v1/uploads/{begun['id']}"
    for number in range(begun["num_parts"], 0, -1):
        part = content[(number - 1) * PART : number * PART]
        walk.ok(client.put(f"{path}/parts/{number}", content=part), 204)
    done = walk.ok(client.post(f"{path}/complete"), 200)
    assert (done["status"], done["sha256"]) == ("complete", hashlib.sha256(content).hexdigest())
    found: str = done["id"]
    return found


def test_a_job_over_nothing_but_uploads(client: httpx.Client) -> None:
    x, y = walk.digits(300)
    content = walk.npz(inputs=x, targets=y)
    assert len(content) > PART
    uploads = [uploaded(client, content, "d.npz")]
    made = walk.ok(client.post("/v1/datasets", json={"upload_id": uploads[0], "name": "d"}), 202)
    uploads.append(uploaded(client, graph(), "network.onnx"))
    run = RUN | {"architecture": {"onnx_upload_id": uploads[1]}}
    trajectory = walk.ok(client.post("/v1/trajectories", json=run), 201)["id"]
    uploads.append(uploaded(client, save(tensors()), "10.safetensors"))
    body = {"upload_id": uploads[2], "step": 10, "learning_rate": 0.1}
    checkpoint = walk.ok(client.post(f"/v1/trajectories/{trajectory}/checkpoints", json=body), 202)["id"]
    for upload_id in uploads:  # what was made of them stays
        walk.ok(client.delete(f"/v1/uploads/{upload_id}"), 204)
    for path in (f"/v1/datasets/{made['id']}", f"/v1/trajectories/{trajectory}/checkpoints/{checkpoint}"):
        body = walk.until(client, path, {"ready", "invalid"})
        assert body["status"] == "ready", body["error"]
    asked = walk.post_job(client, trajectory, made["id"], made["id"], method={"name": "tracin"})
    job = walk.finished(client, walk.ok(asked, 202)["id"])
    assert job["status"] == "succeeded", job["error"]
    assert job["result"]["num_samples"] == 300
