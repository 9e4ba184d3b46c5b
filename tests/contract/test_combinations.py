"""Jobs that train and jobs that judge, on each kind of network: every pair of them is somebody's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from diffin import Diffin, Recorder
from diffin.graph import export_graph
from tests import walk
from tests.services import Service

N, BATCH, GROUP = 48, 12, 8
CLASSES = {"type": "classification", "loss": "cross_entropy"}
TEXT = {"type": "causal_lm", "loss": "cross_entropy"}
CONTRASTIVE = {"type": "contrastive", "loss": "clip", "group_size": GROUP}
BERT: dict[str, Any] = {
    "vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 8, "pad_token_id": 0, "num_labels": 3,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "vocab_size": 12, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8, "pad_token_id": None,
}  # fmt: skip
TWO_TOWER: dict[str, Any] = {
    "image": {"name": "mlp", "config": {"in_features": 48, "hidden": [8]}},
    "text": {"name": "transformer", "config": {"vocab_size": 11, "max_length": 3, "d_model": 8,
             "num_heads": 2, "num_layers": 1, "dim_feedforward": 16}},
    "embedding_dim": 5,
    "temperature": 0.2,
}  # fmt: skip
DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(0, 3, N)
TOKENS = DRAW.integers(1, 4, (N, 6)) + 3 * LABELS[:, None]
IMAGES = DRAW.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8)
CAPTIONS = DRAW.integers(0, 11, (N, 3))


class Towers(nn.Module):
    """Images [B, 3, 4, 4] and captions [B, 3] to unit vectors, and the scale of their products."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
        self.words, self.projection = nn.Embedding(11, 6), nn.Linear(6, 5, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        texts = self.projection(torch.tanh(self.words(tokens)).mean(1))
        images = nnf.normalize(self.image(images), dim=-1)
        return images, nnf.normalize(texts, dim=-1), self.logit_scale.exp()


class Small(nn.Module):
    """Images [B, 3, 4, 4] to three classes, with a layer that nothing asks for, as people leave them."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(torch.tanh(self.conv(x)).flatten(1))
        return found


@pytest.fixture(scope="module")
def client(embedded_service: Service) -> Iterator[httpx.Client]:
    with embedded_service.client() as client:
        yield client


@pytest.fixture(scope="module")
def data(client: httpx.Client) -> dict[str, str]:
    """Ids of data sets: classes of texts, texts alone, classes of images, and images with captions."""
    arrays: dict[str, dict[str, Any]] = {
        "labelled": {"inputs": TOKENS, "targets": LABELS},
        "texts": {"inputs": TOKENS},
        "images": {"inputs": IMAGES, "targets": LABELS},
        "pairs": {"inputs": IMAGES, "targets": CAPTIONS},
    }
    return {name: walk.dataset(client, walk.npz(**one))["id"] for name, one in arrays.items()}


def recipe(rate: float = 0.05, batch: int = BATCH) -> dict[str, Any]:
    schedule = {"name": "constant", "learning_rate": rate}
    return {"optimizer": {"name": "sgd"}, "schedule": schedule, "batch_size": batch, "epochs": 2, "seed": 1}


def graph(
    client: httpx.Client, module: nn.Module, inputs: tuple[Tensor, ...], folder: Path, task: Any
) -> str:
    """A trajectory of a graph, without checkpoints."""
    torch.manual_seed(0)
    export_graph(module, inputs, folder / "n.onnx", dict(module.named_parameters()))
    files: dict[str, Any] = {
        "trajectory": (None, json.dumps({"name": "graph", "task": task})),
        "architecture_file": ("n.onnx", (folder / "n.onnx").read_bytes()),
    }
    made: str = walk.ok(client.post("/v1/trajectories", files=files), 201)["id"]
    while "retry-after" in client.get(f"/v1/trajectories/{made}").headers:
        pass
    return made


def trained(client: httpx.Client, dataset: str, **body: Any) -> str:
    """The run that a train job records."""
    asked = {"type": "train", "train_dataset_id": dataset, "recipe": recipe(), "checkpoints": {"count": 2}}
    job = walk.finished(client, walk.ok(client.post("/v1/jobs", json=asked | body), 202)["id"])
    assert job["status"] == "succeeded", job["error"]
    run: str = job["result"]["trajectory_id"]
    return run


def judged(client: httpx.Client, run: str, dataset: str, **changes: Any) -> dict[str, Any]:
    """The result of an evaluation of the run, and of the exact steps beside it."""
    body = {
        "type": "evaluate",
        "trajectory_id": run,
        "train_dataset_id": dataset,
        "query_dataset_id": dataset,
        "methods": [{"name": "tracin"}, {"name": "diff_in"}],
        "leave_one_out": 12,
    }
    job = walk.finished(client, walk.ok(client.post("/v1/jobs", json=body | changes), 202)["id"])
    assert job["status"] == "succeeded", job["error"]
    result: dict[str, Any] = job["result"]
    assert result["reproduces"] is True and result["diverged"] == 0
    assert result["exact"]["leave_one_out"]["spearman"] > 0.5, result["exact"]
    return result


def test_an_encoder_of_transformers(client: httpx.Client, data: dict[str, str]) -> None:
    run = trained(client, data["labelled"], architecture={"name": "hf/bert", "config": BERT}, task=CLASSES)
    judged(client, run, data["labelled"])


def test_a_decoder_of_transformers(client: httpx.Client, data: dict[str, str]) -> None:
    run = trained(client, data["texts"], architecture={"name": "hf/gpt2", "config": GPT2}, task=TEXT)
    judged(client, run, data["texts"])


def test_two_towers_from_their_config(client: httpx.Client, data: dict[str, str]) -> None:
    run = trained(
        client, data["pairs"], architecture={"name": "two_tower", "config": TWO_TOWER}, task=CONTRASTIVE,
        recipe=recipe(batch=GROUP),
    )  # fmt: skip
    judged(client, run, data["pairs"])


def test_a_graph(client: httpx.Client, data: dict[str, str], tmp_path: Path) -> None:
    told_by = graph(client, Small(), (torch.rand(2, 3, 4, 4),), tmp_path, CLASSES)
    judged(client, trained(client, data["images"], trajectory_id=told_by), data["images"])


def test_a_graph_with_two_inputs(client: httpx.Client, data: dict[str, str], tmp_path: Path) -> None:
    example = (torch.rand(2, 3, 4, 4), torch.zeros(2, 3, dtype=torch.int64))
    told_by = graph(client, Towers(), example, tmp_path, CONTRASTIVE)
    run = trained(client, data["pairs"], trajectory_id=told_by, recipe=recipe(batch=GROUP))
    judged(client, run, data["pairs"])


def test_the_recorder_takes_a_model_of_two_inputs(
    embedded_service: Service, data: dict[str, str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Towers()
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    captions = torch.from_numpy(CAPTIONS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    recorder = Recorder(
        model, (images[:2], captions[:2]), task=CONTRASTIVE, optimizer=optimizer, every=3,
        directory=tmp_path / "run", batch_size=GROUP, train_size=N,
    )  # fmt: skip
    for step in range(6):
        rows = slice(GROUP * step, GROUP * (step + 1))
        left, right, scale = model(images[rows], captions[rows])
        logits, own = scale * left @ right.T, torch.arange(GROUP)
        optimizer.zero_grad()
        loss = (nnf.cross_entropy(logits, own) + nnf.cross_entropy(logits.T, own)) / 2
        torch.autograd.backward(loss)
        optimizer.step()
    with Diffin(embedded_service.url, embedded_service.key) as client:
        run = recorder.upload(client)
        job = client.wait(client.submit(run, data["pairs"], data["pairs"], method="diff_in"))
        assert [one.step for one in client.trajectory(run.id).checkpoints] == [3, 6]
        assert len(list(client.scores(job))) == N
