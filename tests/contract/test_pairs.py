"""Images with captions through the whole service: a contrastive run, and the swapped captions it names."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests import walk
from tests.services import Service
from worker.influence.networks import build
from worker.influence.task import Task

N, QUERIES, GROUP, EPOCHS, SWAPPED, RATE = 250, 100, 16, 9, 20, 0.03
TWO_TOWER: dict[str, Any] = {
    "image": {"name": "mlp", "config": {"in_features": 64, "hidden": [32]}},
    "text": {
        "name": "transformer",
        "config": {"vocab_size": 17, "max_length": 3, "d_model": 16, "num_heads": 2, "num_layers": 1,
                   "dim_feedforward": 32},
    },
    "embedding_dim": 16,
    "temperature": 0.2,
}  # fmt: skip
CONTRASTIVE = {"type": "contrastive", "loss": "clip"}


@pytest.fixture
def client(embedded_service: Service) -> Iterator[httpx.Client]:
    with embedded_service.client() as client:
        yield client


def pairs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits, and captions of three words: which digit, how much ink, how wide."""
    x, y = walk.digits(n, seed)
    columns = x.reshape(-1, 8, 8).sum(1)
    ink, width = x.mean(1), (columns > 0.5).sum(1) + columns.std(1)
    words = [y + 1, np.digitize(ink, [0.29, 0.32]) + 11, np.digitize(width, [7.3, 8.1]) + 14]
    return x, np.stack(words, 1).astype(np.int64)


def trained(
    x: np.ndarray, captions: np.ndarray, rate: float = RATE
) -> tuple[list[dict[str, torch.Tensor]], np.ndarray]:
    """The states at the start and after each third of a run over the groups in order, and that order."""
    torch.manual_seed(0)
    network = build("two_tower", TWO_TOWER)
    task = Task(network, "clip", GROUP)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    epoch = [list(range(start, min(start + GROUP, N))) for start in range(0, N, GROUP)]
    order = np.full((EPOCHS * len(epoch), GROUP), -1)
    states = [{name: t.clone() for name, t in network.state_dict().items()}]
    for step in range(len(order)):
        rows = epoch[step % len(epoch)]
        order[step, : len(rows)] = rows
        batch = torch.from_numpy(x[rows]), torch.from_numpy(captions[rows])
        outputs = task.of_batch(len(rows)).call(dict(network.named_parameters()), *batch)
        loss = task.losses_of(outputs, batch[1])
        optimizer.zero_grad()
        torch.autograd.backward(loss.mean())
        optimizer.step()
        if (step + 1) % (len(order) // 3) == 0:
            states.append({name: t.clone() for name, t in network.state_dict().items()})
    return states, order


def test_swapped_captions_are_found(client: httpx.Client) -> None:
    x, captions = pairs(N, 0)
    queries, right = pairs(QUERIES, 1)
    swapped = np.random.default_rng(1).permutation(N)[:SWAPPED]
    captions[swapped] = captions[swapped[::-1]]
    states, order = trained(x, captions)
    third = len(order) // 3
    run = walk.trajectory(client, "two_tower", TWO_TOWER, task=CONTRASTIVE, batch_size=GROUP)
    assert walk.ok(client.get(f"/v1/trajectories/{run}"), 200)["task"] == CONTRASTIVE | {"group_size": GROUP}
    start = {"file": ("start.safetensors", save(states[0]))}
    walk.ok(client.post(f"/v1/trajectories/{run}/checkpoints", files=start, data={"step": "0"}), 202)
    for at, state in enumerate(states[1:], start=1):
        found = walk.checkpoint(client, run, save(state), at * third, learning_rate=RATE)
        assert found["status"] == "ready", found
    content = io.BytesIO()
    np.save(content, order)
    files = {"file": ("order.npy", content.getvalue())}
    walk.ok(client.put(f"/v1/trajectories/{run}/batch-order", files=files), 200)
    while walk.ok(client.get(f"/v1/trajectories/{run}"), 200)["batch_order"]["status"] == "validating":
        time.sleep(0.1)
    train = walk.dataset(client, walk.npz(inputs=x.reshape(-1, 1, 8, 8), targets=captions))
    query = walk.dataset(client, walk.npz(inputs=queries.reshape(-1, 1, 8, 8), targets=right))

    sample = walk.ok(client.get(f"/v1/datasets/{train['id']}/samples/{swapped[0]}"), 200)
    assert sample["target"] == captions[swapped[0]].tolist()
    picture = client.get(sample["content_url"])
    assert picture.headers["content-type"] == "image/png"

    found = {}
    for resolution in ("segments", "steps"):
        method = {"name": "diff_in", "resolution": resolution}
        posted = walk.post_job(client, run, train["id"], query["id"], method=method)
        job = walk.finished(client, walk.ok(posted, 202)["id"])
        assert job["status"] == "succeeded", job["error"]
        found[resolution] = walk.scores(client, job["id"])
        if resolution == "steps":
            assert job["result"]["answers"] == "this_run"
            ranked = walk.ok(client.get(f"/v1/jobs/{job['id']}/scores?order=suspicion&limit={SWAPPED}"), 200)
            summary = walk.ok(client.get(f"/v1/jobs/{job['id']}/summary"), 200)
            assert summary["count"] == N and summary["by_class"] is None
    most_harmful = sorted(found["segments"], key=lambda row: row["rank"])[:SWAPPED]
    for top in (most_harmful, ranked["data"]):  # by chance, 8 in a hundred are swapped
        assert len(set(swapped.tolist()) & {row["sample_index"] for row in top}) >= 0.3 * SWAPPED

    last = dict(states[-1])
    task = Task(build("two_tower", TWO_TOWER), "clip", GROUP)
    losses = task.losses(last, {}, torch.from_numpy(x), torch.from_numpy(captions))
    assert [row["loss"] for row in found["steps"]] == pytest.approx(losses.tolist(), rel=1e-4)
    for row in found["steps"]:
        group = row["sample_index"] // GROUP
        assert row["label"] is None and row["predicted_label"] // GROUP == group
        assert row["agrees"] == (row["predicted_label"] == row["sample_index"])
    assert 0 < sum(row["agrees"] for row in found["steps"]) < N


def test_a_network_of_two_encoders_is_trained_from_data_alone(client: httpx.Client) -> None:
    x, captions = pairs(70, 0)
    data = walk.dataset(client, walk.npz(inputs=x, targets=captions))["id"]
    recipe = {
        "schedule": {"name": "constant", "learning_rate": RATE},
        "batch_size": 20,
        "epochs": 6,
        "seed": 0,
    }
    body = {"type": "train", "architecture": {"name": "two_tower", "config": TWO_TOWER}, "task": CONTRASTIVE,
            "train_dataset_id": data, "recipe": recipe, "checkpoints": {"count": 2}}  # fmt: skip
    job = walk.finished(client, walk.ok(client.post("/v1/jobs", json=body), 202)["id"])
    assert job["status"] == "succeeded", job["error"]
    run, learned = job["result"]["trajectory_id"], job["result"]["train"]
    assert 0 < learned["accuracy"] < 1 and learned["loss"] < np.log(20)
    assert walk.ok(client.get(f"/v1/trajectories/{run}"), 200)["task"]["group_size"] == 20
    method = {"name": "diff_in", "resolution": "steps"}
    scored = walk.finished(client, walk.ok(walk.post_job(client, run, data, data, method=method), 202)["id"])
    assert scored["status"] == "succeeded", scored["error"]
    assert not scored["result"]["warnings"] and scored["result"]["answers"] == "this_run"
