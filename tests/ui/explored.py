"""A service with a run that was trained and scored: what there is to see on the page."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sklearn.datasets import load_digits

from tests import services
from tests.services import Service

FLIPPED = 60


@dataclass(frozen=True)
class Explored:
    """A service with digits, some labelled wrongly, a run trained on them, and its scores."""

    service: Service
    train: str
    query: str
    trajectory: str
    job: str
    by_query: str
    table: str
    failed: str
    selection: str
    flipped: frozenset[int]

    @property
    def url(self) -> str:
        return self.service.url

    @contextmanager
    def signed_in(self) -> Iterator[httpx.Client]:
        """A client with a session's cookie and no key, as a browser without scripts is."""
        with httpx.Client(base_url=self.url, headers={"Accept": "text/html"}, timeout=30) as http:
            answer = http.post("/sign-in", data={"key": self.service.key}, headers={"Origin": self.url})
            assert answer.status_code == 303, answer.text
            yield http


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def finished(http: httpx.Client, address: str) -> dict[str, Any]:
    """The resource, once it is done with."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found: dict[str, Any] = http.get(address).json()
        if found["status"] in ("ready", "invalid", "succeeded", "failed", "cancelled"):
            return found
        time.sleep(0.2)
    raise AssertionError(f"{address} is still {found['status']}")


def sent(http: httpx.Client, name: str, content: bytes) -> str:
    answer = http.post("/v1/datasets", files={"file": (name, content)}, data={"name": name.split(".")[0]})
    found = finished(http, answer.headers["Location"])
    assert found["status"] == "ready", found
    return str(found["id"])


def done(http: httpx.Client, status: str = "succeeded", /, **body: Any) -> dict[str, Any]:
    answer = http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = finished(http, answer.headers["Location"])
    assert job["status"] == status, job
    return job


def wrongly_labelled() -> tuple[Any, Any, Any, Any, frozenset[int]]:
    """Digits to train on, every tenth or so with another label, and others to ask about."""
    rng = np.random.default_rng(0)
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    images, labels = (digits.images[order] * 15).astype(np.uint8), digits.target[order].astype(np.int64)
    flipped = rng.choice(600, FLIPPED, replace=False)
    wrong = labels[:600].copy()
    wrong[flipped] = (wrong[flipped] + rng.integers(1, 10, FLIPPED)) % 10
    return images[:600], wrong, images[600:800], labels[600:800], frozenset(flipped.tolist())


@contextmanager
def exploring(folder: Path) -> Iterator[Explored]:
    """The service, with all it keeps below `folder`."""
    with services.embedded(folder) as service, service.client() as http:
        inputs, targets, query_inputs, query_targets, flipped = wrongly_labelled()
        train = sent(http, "digits.npz", npz(inputs=inputs, targets=targets))
        query = sent(http, "queries.npz", npz(inputs=query_inputs, targets=query_targets))
        recipe = {
            "optimizer": {"name": "sgd", "momentum": 0.9},
            "schedule": {"name": "cosine", "learning_rate": 0.05},
            "batch_size": 50,
            "epochs": 12,
        }
        network = {"name": "mlp", "config": {"in_features": 64, "hidden": [32], "num_classes": 10}}
        new: dict[str, Any] = {"type": "train", "architecture": network, "train_dataset_id": train}
        new |= {"task": {"type": "classification", "loss": "cross_entropy"}, "recipe": recipe}
        trained = done(http, **new, checkpoints={"count": 5}, name="digits, from nothing")
        hot = recipe | {"schedule": {"name": "constant", "learning_rate": 1e25}}
        failed = done(http, "failed", **(new | {"recipe": hot}), name="far too hot")
        trajectory = trained["result"]["trajectory_id"]
        asked: dict[str, Any] = {"type": "influence", "trajectory_id": trajectory, "train_dataset_id": train}
        asked |= {"query_dataset_id": query}
        job = done(http, **asked, name="what hurts?")
        tracin = {"name": "tracin", "per_query": True}
        by_query = done(http, **asked, method=tracin, query={"indices": [3, 5, 8]}, name="by query")
        rows = "".join(f"{20 + at % 50},{'Oslo' if at % 3 else 'Rome'},{at % 2}\n" for at in range(60))
        people = sent(http, "people.csv", f"age,city,label\n{rows}".encode())
        small = new | {"train_dataset_id": people, "recipe": recipe | {"batch_size": 10, "epochs": 2}}
        width = http.get(f"/v1/datasets/{people}").json()["input"]["shape"][0]
        small["architecture"] = {"name": "linear", "config": {"in_features": width, "num_classes": 2}}
        over = done(http, **small)["result"]["trajectory_id"]
        asked |= {"trajectory_id": over, "train_dataset_id": people, "query_dataset_id": people}
        table = done(http, **asked, name="people")
        told = {"type": "clean", "auto": True, "verify": True, "seeds": 2}
        answer = http.post(f"/v1/jobs/{job['id']}/selections", json=told)
        selection = finished(http, answer.headers["Location"])
        assert selection["status"] == "succeeded", selection
        ids = (train, query, trajectory, job["id"], by_query["id"], table["id"], failed["id"])
        yield Explored(service, *ids, selection["id"], flipped)
