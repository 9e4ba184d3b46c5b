"""The service's main way, as a plain HTTP client walks it: upload, describe the run, ask, read the answer."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import torch
from safetensors.torch import save
from sklearn.datasets import load_digits

MLP = {"in_features": 64, "hidden": [8], "num_classes": 10, "activation": "gelu"}
FINISHED = {"succeeded", "failed", "cancelled"}


def digits(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Digits as float features [n, 64] in 0..1, and their labels."""
    inputs, targets = load_digits(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(inputs))[:n]
    return (inputs[rows] / 16).astype(np.float32), targets[rows].astype(np.int64)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def mlp_state(seed: int = 0, widths: Sequence[int] = (64, 8, 10)) -> dict[str, torch.Tensor]:
    """The tensors of a small `mlp`, drawn by `seed`."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for i, (a, b) in enumerate(pairwise(widths)):
        state[f"layers.{i}.weight"] = torch.randn(b, a, generator=draw) / a**0.5
        state[f"layers.{i}.bias"] = torch.zeros(b)
    return state


def ok(response: httpx.Response, status: int) -> Any:
    """The body of a response that must have this status."""
    assert response.status_code == status, f"{response.request.url}: {response.status_code} {response.text}"
    return response.json() if response.content else None


def until(client: httpx.Client, path: str, done: set[str], seconds: float = 120) -> dict[str, Any]:
    """Polls a resource until its status is one of `done`."""
    end = time.monotonic() + seconds
    while True:
        body: dict[str, Any] = ok(client.get(path), 200)
        if body["status"] in done:
            return body
        assert time.monotonic() < end, f"{path} is still {body['status']} after {seconds} s"
        time.sleep(0.1)


def post_dataset(
    client: httpx.Client, content: bytes, filename: str = "d.npz", **fields: str
) -> httpx.Response:
    return client.post("/v1/datasets", files={"file": (filename, content)}, data={"name": "d"} | fields)


def dataset(client: httpx.Client, content: bytes, filename: str = "d.npz", **fields: str) -> dict[str, Any]:
    """A data set once it is ready or invalid."""
    posted = ok(post_dataset(client, content, filename, **fields), 202)
    return until(client, f"/v1/datasets/{posted['id']}", {"ready", "invalid"})


def trajectory(client: httpx.Client, name: str = "mlp", config: Any = None, **fields: Any) -> str:
    body = {
        "name": "run",
        "architecture": {"name": name, "config": MLP if config is None else config},
        "task": {"type": "classification", "loss": "cross_entropy"},
    }
    created: str = ok(client.post("/v1/trajectories", json=body | fields), 201)["id"]
    return created


def post_checkpoint(
    client: httpx.Client,
    trajectory_id: str,
    content: bytes,
    step: Any = 10,
    filename: str = "c.safetensors",
    **rates: Any,
) -> httpx.Response:
    fields = {"step": str(step)} | {
        key: str(value) for key, value in (rates or {"learning_rate": 0.1}).items()
    }
    return client.post(
        f"/v1/trajectories/{trajectory_id}/checkpoints", files={"file": (filename, content)}, data=fields
    )


def checkpoint(
    client: httpx.Client, trajectory_id: str, content: bytes, step: int = 10, **rates: Any
) -> dict[str, Any]:
    """A checkpoint once it is ready or invalid."""
    posted = ok(post_checkpoint(client, trajectory_id, content, step, **rates), 202)
    return until(client, f"/v1/trajectories/{trajectory_id}/checkpoints/{posted['id']}", {"ready", "invalid"})


def run(client: httpx.Client, steps: Sequence[int] = (10, 20, 30), **fields: Any) -> str:
    """A ready trajectory of a small MLP with checkpoints at `steps`."""
    created = trajectory(client, **fields)
    for step in steps:
        body = checkpoint(client, created, save(mlp_state(step)), step)
        assert body["status"] == "ready", body
    return created


def post_job(
    client: httpx.Client,
    trajectory_id: str,
    train: str,
    query: str | None,
    selection: Any = None,
    **fields: Any,
) -> httpx.Response:
    """Asks for an influence job, `diff_in` at its defaults unless `method` is given."""
    body = {
        "type": "influence",
        "trajectory_id": trajectory_id,
        "train_dataset_id": train,
        "query_dataset_id": query,
        "query": selection,
    }
    return client.post("/v1/jobs", json=body | {"method": {"name": "diff_in"}} | fields)


def finished(client: httpx.Client, job_id: str, seconds: float = 180) -> dict[str, Any]:
    return until(client, f"/v1/jobs/{job_id}", FINISHED, seconds)


def scores(client: httpx.Client, job_id: str, order: str = "index") -> list[dict[str, Any]]:
    """All rows of a job, page by page."""
    rows: list[dict[str, Any]] = []
    params: dict[str, Any] = {"order": order, "limit": 1000}
    while True:
        page = ok(client.get(f"/v1/jobs/{job_id}/scores", params=params), 200)
        rows += page["data"]
        if page["next_cursor"] is None:
            return rows
        params["cursor"] = page["next_cursor"]


def events(client: httpx.Client, job_id: str) -> list[str]:
    return [event["type"] for event in ok(client.get(f"/v1/jobs/{job_id}/events"), 200)["data"]]


def sse(client: httpx.Client, path: str, **headers: str) -> list[dict[str, Any]]:
    """The event stream to its end, as {id, event, data}."""
    found: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    with client.stream("GET", path, headers={"Accept": "text/event-stream"} | headers) as response:
        for line in response.iter_lines():
            if not line and current:
                found.append(current)
                current = {}
            elif line and not line.startswith(":"):
                key, _, value = line.partition(": ")
                current[key] = json.loads(value) if key == "data" else value
    return found
