"""The front end as tests use it: a client signed in to a real server, and its records.

There is no worker: what one would do to a resource is done by calling the store, as the worker does.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI

from app.settings import MIB, Settings
from app.store import datasets, jobs, keys, scores, trajectories, work
from app.store.blobs import BlobStore
from app.store.db import Database, new_id
from app.store.tables import ApiKey, Checkpoint, Dataset, Job, Trajectory

KEY = "a key of the tests"
MAX_UPLOAD = 4 * MIB
URI_PREFIXES = "s3://data/sets/,file:///srv/shared/,https://files.example.com/pub/,s3://teams/{project}/"


@dataclass(frozen=True)
class Service:
    """A running front end, a client signed in to it, and its records."""

    app: FastAPI
    settings: Settings
    http: httpx.Client
    project_id: str

    @property
    def url(self) -> str:
        return str(self.http.base_url)

    @property
    def database(self) -> Database:
        database: Database = self.app.state.database
        return database

    @property
    def blobs(self) -> BlobStore:
        blobs: BlobStore = self.app.state.blobs
        return blobs

    def staged(self) -> list[Path]:
        return list(self.blobs.staging.iterdir())

    def make_key(self, text: str, *scopes: str, project_id: str | None = None) -> httpx.Headers:
        """The headers of a new key."""
        with self.database.transaction() as session:
            session.add(
                ApiKey(
                    id=new_id("key"),
                    project_id=project_id or self.project_id,
                    name=text,
                    digest=keys.digest(self.settings.secret, text),
                    scopes=list(scopes),
                )
            )
        return httpx.Headers({b"Authorization": f"Bearer {text}".encode()})

    # ---- what a client does
    def upload(
        self, inputs: Any = None, targets: Any = None, name: str = "digits", **fields: str
    ) -> dict[str, Any]:
        """Posts a data set, digits-like unless given, and returns its resource."""
        answer = self.http.post(
            "/v1/datasets",
            files={"file": (f"{name}.npz", npz(*arrays(inputs, targets)))},
            data={"name": name, **fields},
        )
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def put_order(self, trajectory_id: str, content: bytes = b"an order") -> httpx.Response:
        path = f"/v1/trajectories/{trajectory_id}/batch-order"
        return self.http.put(path, files={"file": ("order.npy", content)})

    def trajectory(self, **changes: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/trajectories", json=RUN | changes)
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def checkpoint(self, trajectory_id: str, step: int, **fields: str) -> dict[str, Any]:
        answer = self.http.post(
            f"/v1/trajectories/{trajectory_id}/checkpoints",
            files={"file": (f"{step}.safetensors", f"tensors after {step} steps".encode())},
            data={"step": str(step)} | (fields or ({"learning_rate": "0.1"} if step else {})),
        )
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return body

    # ---- what a worker does
    def validate(self, dataset_id: str, inputs: Any = None, targets: Any = None, ids: Any = None) -> None:
        """Makes a data set ready, with these arrays in canonical form."""
        inputs, targets = arrays(inputs, targets)
        with self.database.transaction() as session:
            dataset = session.get_one(Dataset, dataset_id)
            files = {"inputs": inputs, "targets": targets} | ({} if ids is None else {"ids": ids})
            folder = self.blobs.staging
            for kind, array in files.items():
                np.save(folder / f"{kind}.npy", array)
            datasets.ready(
                session,
                self.blobs,
                dataset,
                told(inputs, targets, has_ids=ids is not None),
                {kind: folder / f"{kind}.npy" for kind in files},
            )
        for kind in files:
            (folder / f"{kind}.npy").unlink(missing_ok=True)  # content kept already stays where it was

    def refuse(self, resource_id: str, detail: str = "The file is truncated.") -> None:
        """Makes a data set or a checkpoint invalid."""
        error = {"code": "invalid", "detail": detail}
        with self.database.transaction() as session:
            if resource_id.startswith("ds_"):
                datasets.invalid(session, self.blobs, session.get_one(Dataset, resource_id), error)
            else:
                trajectories.invalid(session, self.blobs, session.get_one(Checkpoint, resource_id), error)

    def accept(self, checkpoint_id: str, **info: Any) -> None:
        """Makes a checkpoint ready."""
        with self.database.transaction() as session, self.blobs.stage() as staged:
            staged.write_bytes(f"canonical {checkpoint_id}".encode())
            checkpoint = session.get_one(Checkpoint, checkpoint_id)
            trajectories.ready(session, self.blobs, checkpoint, info, staged)

    def accept_order(self, trajectory_id: str, **info: int) -> None:
        """Makes the batch order of a trajectory ready."""
        with self.database.transaction() as session, self.blobs.stage() as staged:
            staged.write_bytes(f"canonical order of {trajectory_id}".encode())
            order = session.get_one(Trajectory, trajectory_id).batch_order
            assert order is not None
            trajectories.ready(session, self.blobs, order, info, staged)

    def refuse_order(self, trajectory_id: str, detail: str) -> None:
        with self.database.transaction() as session:
            order = session.get_one(Trajectory, trajectory_id).batch_order
            assert order is not None
            trajectories.invalid(session, self.blobs, order, {"code": "invalid", "detail": detail})

    def start(self, job_id: str, done: int = 0, total: int = 0) -> None:
        """A worker has come for the job and has done a part of it."""
        with self.database.transaction() as session:
            job = session.get_one(Job, job_id)
            jobs.start(session, job, 1)
            jobs.set_plan(job, {}, total)
            unit = work.of(session, job_id, "plan")[0]
            work.claim(session, unit.id, unit.attempt, "a worker", 60)
            session.refresh(unit)
            unit.completed, unit.total = done, total

    def succeed(self, job_id: str, columns: Mapping[str, Any] | None = None, **result: Any) -> None:
        """Ends a job with scores; `columns` as `scores.write` takes them."""
        with self.database.transaction() as session:
            job = session.get_one(Job, job_id)
            jobs.start(session, job, 1)
            columns = columns if columns is not None else scored(len(job.checkpoint_ids))
            scores.write(session, job_id, columns)
            jobs.succeed(
                session,
                self.blobs,
                job,
                {"num_samples": len(columns["score"]), "self_influence": False} | result,
            )


RUN: dict[str, Any] = {
    "name": "run 7",
    "architecture": {"name": "mlp", "config": {"in_features": 4, "hidden": [8], "num_classes": 3}},
    "task": {"type": "classification", "loss": "cross_entropy"},
}
N = 12


def arrays(inputs: Any = None, targets: Any = None) -> tuple[Any, Any]:
    """A small data set: [12, 4] numbers of 3 classes."""
    inputs = np.arange(N * 4, dtype=np.float32).reshape(N, 4) if inputs is None else inputs
    return inputs, np.arange(len(inputs), dtype=np.int64) % 3 if targets is None else targets


def npz(inputs: Any, targets: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, inputs=inputs, targets=targets)
    return buffer.getvalue()


def told(inputs: Any, targets: Any, *, has_ids: bool = False) -> dict[str, Any]:
    """What the worker says of canonical arrays."""
    labels = targets.dtype.kind == "i" and targets.ndim == 1 and targets.min() >= 0
    image = inputs.ndim == 4

    def info(array: Any, kind: str) -> dict[str, Any]:
        least, most = array.min().item(), array.max().item()
        return {
            "shape": list(array.shape[1:]),
            "dtype": str(array.dtype),
            "kind": kind,
            "min": least,
            "max": most,
        }

    return {
        "num_samples": len(inputs),
        "num_classes": int(targets.max()) + 1 if labels else None,
        "class_counts": np.bincount(targets).tolist() if labels else None,
        "has_ids": has_ids,
        "input": info(inputs, "image" if image else "array"),
        "target": info(targets, "array"),
    }


def scored(checkpoints: int = 1, n: int = N) -> dict[str, Any]:
    """Columns of scores: two ties, both signs, each the sum of its parts."""
    values = np.sin(np.arange(n, dtype=np.float64)).round(1)
    values[1] = values[0]
    parts = np.repeat(values[:, None] / checkpoints, checkpoints, axis=1)
    return {
        "sample_index": np.arange(n),
        "sample_id": None,
        "score": values,
        "rank": scores.ranks(values),
        "self_influence": None,
        "label": np.arange(n) % 3.0,
        "predicted_label": np.arange(n) % 2.0,
        "loss": np.linspace(0.1, 2, n),
        "contributions": parts,
        "losses": np.repeat(np.linspace(0.1, 2, n)[:, None], checkpoints, axis=1),
    }


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """`app` served on a free port in a thread, as uvicorn serves it; its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    # Named as TCP, so that asyncio sends at once (TCP_NODELAY) and no answer waits 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        wait_for(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def request_of(inputs: Mapping[str, str], **changes: Any) -> dict[str, Any]:
    return {"type": "influence", "method": {"name": "tracin"}, **inputs, **changes}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem of an answer, after checking that it is one as the contract has them."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"].endswith(code) and body["title"] and body["detail"] and body["instance"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def pointers(body: Mapping[str, Any]) -> list[str]:
    return [error["pointer"] for error in body["errors"]]


def pages(http: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    """The rows of all pages of a list."""
    rows: list[dict[str, Any]] = []
    while True:
        page = http.get(path, params=query).raise_for_status().json()
        rows += page["data"]
        if page["next_cursor"] is None:
            return rows
        query["cursor"] = page["next_cursor"]


def parsed_events(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Server-sent events as [{id?, event, data}]."""
    found = []
    for block in "\n".join(lines).split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append(fields | {"data": json.loads(fields["data"])})
    return found


def wait_for(holds: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
