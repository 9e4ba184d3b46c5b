"""What is asked of the service in a storm: short orders of every kind, and all that a client sees of each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests import walk
from tests.services import Service

PATIENCE = 240.0  # seconds until a client gives up
RECIPE: dict[str, Any] = {
    "optimizer": {"name": "adam"},
    "schedule": {"name": "cosine", "learning_rate": 0.01},
    "batch_size": 32,
    "total_steps": 200,
}
TASK = {"type": "classification", "loss": "cross_entropy"}
ENDED = {"succeeded", "failed", "cancelled", "ready", "invalid"}
DIFFERS = {"id", "created_at", "name", "trajectory_id"}


@dataclass
class Client:
    """A client as it should be: what broke, or was put off, it sends again, a POST with the same key."""

    service: Service
    unexpected: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, method: str, path: str, *, key: str | None = None, **how: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.service.key}"} | ({"Idempotency-Key": key} if key else {})
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                answer = httpx.request(method, self.service.url + path, headers=headers, timeout=60, **how)
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            in_flight = answer.status_code == 409 and "retry-after" in answer.headers
            if answer.status_code == 503 or in_flight:
                time.sleep(0.3)
                continue
            if answer.status_code >= 500:
                with self._lock:
                    self.unexpected.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
                time.sleep(0.3)
                continue
            return answer
        raise TimeoutError(f"{method} {path} found nobody in {PATIENCE:.0f} s")

    def get(self, path: str, **params: Any) -> Any:
        answer = self.send("GET", path, params=params)
        if answer.status_code != 200:
            raise LookupError(f"{path}: {answer.status_code} {answer.text}")
        return answer.json()

    def rows(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """All rows of a list."""
        found: list[dict[str, Any]] = []
        params = {"limit": 1000} | params
        while True:
            page = self.get(path, **params)
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            params["cursor"] = page["next_cursor"]


@dataclass(frozen=True)
class Inputs:
    """What all orders of a storm are about."""

    train: str
    query: str
    run: str
    job: str  # one that succeeded
    file: bytes  # a data set yet to be sent


@dataclass(frozen=True)
class Question:
    """One thing to ask.

    Attributes:
        path: where it is posted, given the inputs.
        body: what is posted.
        kept_at: below which path its resource lies.
        answer: all that is to be the same each time.
    """

    path: Callable[[Inputs], str]
    body: Callable[[Inputs], dict[str, Any]]
    kept_at: str
    answer: Callable[[Client, str], Any]


def _influence(method: dict[str, Any]) -> Question:
    def body(have: Inputs) -> dict[str, Any]:
        about = {"trajectory_id": have.run, "train_dataset_id": have.train, "query_dataset_id": have.query}
        return {"type": "influence", "method": method} | about

    return Question(lambda have: "/v1/jobs", body, "/v1/jobs", _scores)


def _scores(client: Client, path: str) -> Any:
    found: dict[str, Any] = {"scores": client.rows(f"{path}/scores", order="index")}
    if client.get(path)["result"]["per_query"]:
        found["influences"] = client.send("GET", f"{path}/influences/content").content.hex()
    return found


def _trained(client: Client, path: str) -> Any:
    result = client.get(path)["result"]
    run = client.get(f"/v1/trajectories/{result['trajectory_id']}")
    told = ("sha256", "step", "learning_rate", "learning_rates", "optimizer_file", "bytes")
    states = [{name: state[name] for name in told} for state in run["checkpoints"]]
    return {"states": states, "curve": result["curve"], "train": result["train"]}


def _selected(client: Client, path: str) -> Any:
    result = {name: told for name, told in client.get(path)["result"].items() if name != "timing"}
    return {"samples": client.rows(f"{path}/samples"), "result": result}


def _written(client: Client, path: str) -> Any:
    return client.send("GET", f"{path}/content").content.hex()


def _read(client: Client, path: str) -> Any:
    told = {name: value for name, value in client.get(path).items() if name not in DIFFERS}
    rows = client.get(f"{path}/samples", limit=50)["data"]
    samples = [{name: value for name, value in row.items() if name != "content_url"} for row in rows]
    return told | {"samples": samples}


def _selection(**asked: Any) -> Question:
    return Question(
        lambda have: f"/v1/jobs/{have.job}/selections", lambda _: asked, "/v1/selections", _selected
    )


def _export(kind: str) -> Question:
    def body(have: Inputs) -> dict[str, Any]:
        return {"job_id": have.job, "format": kind}

    return Question(lambda _: "/v1/exports", body, "/v1/exports", _written)


def _training(have: Inputs) -> dict[str, Any]:
    network = {"name": "mlp", "config": walk.MLP}
    asked = {"type": "train", "architecture": network, "task": TASK, "train_dataset_id": have.train}
    return asked | {"recipe": RECIPE, "checkpoints": {"every": 40}}


QUESTIONS: Mapping[str, Question] = {
    "diff_in": _influence({"name": "diff_in"}),
    "tracin": _influence({"name": "tracin"}),
    "per_query": _influence({"name": "tracin", "per_query": True}),
    "train": Question(lambda _: "/v1/jobs", _training, "/v1/jobs", _trained),
    "clean": _selection(type="clean", size=20),
    "coreset": _selection(type="coreset", fraction=0.2),
    "npz": _export("npz"),
    "csv": _export("csv"),
    "dataset": Question(lambda _: "/v1/datasets", lambda _: {}, "/v1/datasets", _read),
}
# how often each is asked: jobs of many units more than what one unit does
WEIGHTS = {"diff_in": 4, "tracin": 4, "per_query": 2, "train": 3, "dataset": 2}


@dataclass
class Order:
    """One question asked once, under a name and an Idempotency-Key of its own; `path` once it is accepted."""

    name: str
    asks: str
    path: str | None = None
    ended: str | None = None
    refused: str | None = None

    @property
    def question(self) -> Question:
        return QUESTIONS[self.asks]


def post(client: Client, have: Inputs, order: Order, file: Any = None) -> None:
    """Has the order accepted; a data set is sent with it, as `file` if given."""
    asked = order.question
    if order.asks == "dataset":
        content = ("d.npz", file or have.file)
        how: dict[str, Any] = {"files": {"file": content}, "data": {"name": order.name}}
    else:
        how = {"json": asked.body(have) | {"name": order.name}}
    answer = client.send("POST", asked.path(have), key=order.name, **how)
    if answer.status_code >= 400:
        order.refused = f"{answer.status_code} {answer.text}"
        raise RuntimeError(f"{order} was refused: {order.refused}")
    order.path = f"{asked.kept_at}/{answer.json()['id']}"


def follow(client: Client, order: Order) -> None:
    """Polls the order until it has ended."""
    end = time.monotonic() + PATIENCE
    while order.path is not None and time.monotonic() < end:
        status = client.get(order.path)["status"]
        if status in ENDED:
            order.ended = status
            return
        time.sleep(0.1)


def prepare(client: Client) -> Inputs:
    """Sends the inputs, and asks what selections and exports are of."""
    with client.service.client() as http:
        x, y = walk.digits(1200)
        train = walk.dataset(http, walk.npz(inputs=x, targets=y))["id"]
        query = walk.dataset(http, walk.npz(inputs=x[:60], targets=y[:60]))["id"]
        run = walk.run(http, (10, 20, 30))
        job = walk.ok(walk.post_job(http, run, train, query), 202)["id"]
        done = walk.finished(http, job)
        assert done["status"] == "succeeded", done
    return Inputs(train, query, run, job, walk.npz(inputs=x[:500], targets=y[:500]))


def same(one: Any, other: Any) -> bool:
    """Whether two answers are the same to the bit: JSON writes each number so that it can be read back."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
