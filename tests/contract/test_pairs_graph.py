"""Two encoders that the service has never seen, by their graph: pairs are scored as by the module itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as nnf

from diffin.graph import export_graph
from tests import walk
from tests.services import Service
from worker.influence.score import score
from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

N, GROUP, RATE, STEPS = 20, 8, 0.05, (10, 20)
CONTRASTIVE = {"type": "contrastive", "loss": "clip", "group_size": GROUP}


class Towers(nn.Module):
    """Images [B, 3, 4, 4] and captions [B, 3] to unit vectors, and the scale of their products."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(16, 5))
        self.words, self.projection = nn.Embedding(11, 6), nn.Linear(6, 5, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        texts = self.projection(torch.tanh(self.words(tokens)).mean(1))
        return (
            nnf.normalize(self.image(images), dim=-1),
            nnf.normalize(texts, dim=-1),
            self.logit_scale.exp(),
        )


def test_pairs_are_scored_by_a_graph_as_by_the_module(embedded_service: Service, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (2, N, 4, 4, 3), dtype=np.uint8)
    captions = draw.integers(0, 11, (2, N, 3))
    torch.manual_seed(0)
    network = Towers()
    x, y = torch.from_numpy(images).permute(0, 1, 4, 2, 3) / 255, torch.from_numpy(captions)
    export_graph(network, (x[0, :2], y[0, :2]), tmp_path / "towers.onnx", dict(network.named_parameters()))
    states = []
    for _ in STEPS:
        states.append({name: value.detach() + 0.1 * torch.randn(value.shape) for name, value in
                       network.named_parameters()})  # fmt: skip

    with embedded_service.client() as client:
        run = {"name": "towers", "task": CONTRASTIVE, "train_size": N}
        content = (tmp_path / "towers.onnx").read_bytes()
        files: dict[str, Any] = {
            "trajectory": (None, json.dumps(run)),
            "architecture_file": ("t.onnx", content),
        }
        made = walk.ok(client.post("/v1/trajectories", files=files), 201)["id"]
        for step, state in zip(STEPS, states, strict=True):
            found = walk.checkpoint(client, made, save(state), step, learning_rate=RATE)
            assert found["status"] == "ready", found
        told = walk.ok(client.get(f"/v1/trajectories/{made}"), 200)["architecture"]["config"]
        assert [one.get("vocab_size") for one in told["inputs"]] == [None, 11] and told["vocab_size"] is None
        train, query = (
            walk.dataset(client, walk.npz(inputs=images[at], targets=captions[at]))["id"] for at in (0, 1)
        )
        for name in ("diff_in", "tracin"):
            posted = walk.post_job(client, made, train, query, method={"name": name})
            job = walk.finished(client, walk.ok(posted, 202)["id"])
            assert job["status"] == "succeeded", job["error"]
            scores = np.array([row["score"] for row in walk.scores(client, job["id"])])
            kept = [
                Checkpoint(step, (RATE,) * 10, state, {}) for step, state in zip(STEPS, states, strict=True)
            ]
            schedule = Schedule(
                steps=STEPS, learning_rates=((RATE,) * 10,) * 2, total_steps=None, train_size=N
            )
            wanted = score(
                name, Task(network, "clip", GROUP), Trajectory(kept, schedule, None), Arrays(x[0], y[0]),
                Arrays(x[1], y[1]),
            ).scores.numpy()  # fmt: skip
            assert np.abs(scores - wanted).max() <= 1e-4 * np.abs(wanted).max()
        for wrong, words in (
            (captions[0] + 1, "up to 11, but the embedding has 11 rows"),
            (captions[0].astype(np.float32), "takes token ids"),
        ):
            other = walk.dataset(client, walk.npz(inputs=images[0], targets=wrong))["id"]
            refused = walk.ok(walk.post_job(client, made, other, other), 422)
            assert refused["code"] == "shape_mismatch" and words in refused["detail"]
