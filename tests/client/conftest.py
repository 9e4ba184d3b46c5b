"""A client of the real service, and one small training run for it to ask about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from diffin import Diffin, Recorder
from diffin.models import Dataset, Job, Trajectory
from tests.services import Service

SAMPLES, QUERIES, FEATURES, CLASSES = 1100, 50, 4, 3  # more samples than a page holds
CONFIG = {"in_features": FEATURES, "num_classes": CLASSES}


class Arrays:
    """Gaussian clusters, one a class; the first ten labels are wrong."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        truth = rng.integers(0, CLASSES, SAMPLES + QUERIES)
        centres = 2.0 * rng.standard_normal((CLASSES, FEATURES))
        inputs = (centres[truth] + rng.standard_normal((len(truth), FEATURES))).astype(np.float32)
        self.inputs, self.targets = inputs[:SAMPLES], truth[:SAMPLES].copy()
        self.targets[:10] = (self.targets[:10] + 1) % CLASSES
        self.query_inputs, self.query_targets = inputs[SAMPLES:], truth[SAMPLES:]


class Linear(nn.Module):
    """The registered network `linear`, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(FEATURES, CLASSES)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers[0](x)
        return logits


def train(recorder: Recorder, arrays: Arrays, steps: int = 6) -> None:
    """Full-batch SGD with a falling learning rate; does not finish the recording."""
    torch.manual_seed(0)
    model = Linear()
    x, y = torch.from_numpy(arrays.inputs), torch.from_numpy(arrays.targets)
    for step in range(1, steps + 1):
        gradients = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.sub_(0.5 / step * gradient)
        recorder.step(model, step, 0.5 / step)


@pytest.fixture(scope="session")
def arrays() -> Arrays:
    return Arrays()


@pytest.fixture(scope="session")
def client(embedded_service: Service) -> Iterator[Diffin]:
    with Diffin(embedded_service.url, embedded_service.key) as client:
        yield client


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory, arrays: Arrays) -> Path:
    """The folder of a finished run of 6 steps with 3 checkpoints."""
    folder = tmp_path_factory.mktemp("recording")
    recorder = Recorder(
        name="clusters", architecture={"name": "linear", "config": CONFIG}, directory=folder, every=2
    )
    train(recorder, arrays)
    return folder


@pytest.fixture(scope="session")
def training(client: Diffin, arrays: Arrays) -> Dataset:
    return client.ready(client.upload_dataset(inputs=arrays.inputs, targets=arrays.targets, name="clusters"))


@pytest.fixture(scope="session")
def query(client: Diffin, arrays: Arrays) -> Dataset:
    sent = client.upload_dataset(
        inputs=arrays.query_inputs, targets=arrays.query_targets, name="clusters, query"
    )
    return client.ready(sent)


@pytest.fixture(scope="session")
def trajectory(client: Diffin, recording: Path) -> Trajectory:
    from diffin.recording import Recording

    return client.ready(Recording.open(recording).upload(client))


@pytest.fixture(scope="session")
def job(client: Diffin, trajectory: Trajectory, training: Dataset, query: Dataset) -> Job:
    return client.wait(
        client.submit(trajectory, training, query, name="what hurts?", metadata={"git": "abc"})
    )
