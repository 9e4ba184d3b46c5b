"""Tasks and networks other than the MLP classifier, through the whole service."""

from __future__ import annotations

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

LINEAR = {"in_features": 64, "num_classes": 1}


@pytest.fixture
def client(embedded_service: Service) -> Iterator[httpx.Client]:
    with embedded_service.client() as client:
        yield client


def state(name: str, config: dict[str, Any], seed: int) -> bytes:
    torch.manual_seed(seed)
    return save(build(name, config).state_dict())


def rows(
    client: httpx.Client, name: str, config: dict[str, Any], x: np.ndarray, y: np.ndarray, **run: Any
) -> list[dict[str, Any]]:
    """The scores of `diff_in` on a run of two checkpoints, the query set being part of the training set."""
    created = walk.trajectory(client, name, config, **run)
    for step in (5, 10):
        checkpoint = walk.checkpoint(client, created, state(name, config, step), step)
        assert checkpoint["status"] == "ready", checkpoint
    train, query = (
        walk.dataset(client, walk.npz(inputs=x[:n], targets=y[:n])) for n in (len(x), len(x) // 2)
    )
    assert train["status"] == query["status"] == "ready", (train["error"], query["error"])
    job = walk.finished(client, walk.ok(walk.post_job(client, created, train["id"], query["id"]), 202)["id"])
    assert job["status"] == "succeeded", job["error"]
    found = walk.scores(client, job["id"])
    assert len(found) == len(x) and any(row["score"] != 0 for row in found)
    return found


@pytest.mark.parametrize("column", [False, True], ids=["[N]", "[N, 1]"])
def test_binary(client: httpx.Client, column: bool) -> None:
    x, y = walk.digits(40)
    targets = (y > 4).astype(np.float32)
    task = {"type": "binary", "loss": "bce_with_logits"}
    found = rows(client, "linear", LINEAR, x, targets[:, None] if column else targets, task=task)
    assert [row["label"] for row in found] == targets.tolist()
    assert all(row["agrees"] == (row["label"] == row["predicted_label"]) for row in found)


def test_regression(client: httpx.Client) -> None:
    x, y = walk.digits(40)
    targets = y.astype(np.float32) / 3
    found = rows(client, "linear", LINEAR, x, targets, task={"type": "regression", "loss": "mse"})
    assert [row["label"] for row in found] == pytest.approx(targets.tolist())
    assert all(row["agrees"] is None for row in found)
    losses = [(row["predicted_label"] - row["label"]) ** 2 for row in found]
    assert [row["loss"] for row in found] == pytest.approx(losses, rel=1e-4, abs=1e-6)


def test_a_residual_network_with_batch_norm_on_pictures(client: httpx.Client) -> None:
    config = {"in_channels": 1, "num_classes": 10, "depth": 10, "width": 4}
    x, y = walk.digits(24)
    pictures = (x.reshape(-1, 8, 8) * 255).astype(np.uint8)
    rows(client, "resnet", config, pictures, y, preprocessing={"mean": [0.3], "std": [0.4]})


def test_a_transformer_on_token_ids(client: httpx.Client) -> None:
    config = {"vocab_size": 17, "max_length": 64, "num_classes": 10, "d_model": 8, "num_heads": 2,
              "num_layers": 1, "dim_feedforward": 16}  # fmt: skip
    x, y = walk.digits(24)
    rows(client, "transformer", config, (x * 16).astype(np.int64), y)


def test_an_optimizer_the_formulas_do_not_know_is_warned_of(client: httpx.Client) -> None:
    x, y = walk.digits(40)
    run = walk.run(client, (10,), optimizer={"name": "adam"})
    data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    job = walk.finished(client, walk.ok(walk.post_job(client, run, data, data), 202)["id"])
    assert [warning["code"] for warning in job["result"]["warnings"]] == ["optimizer_ignored"]
