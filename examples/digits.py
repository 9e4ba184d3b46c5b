"""Real data with known faults: scikit-learn's digits, some training labels flipped, and a small CNN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

from diffin import Recorder

CLASSES = 10
QUERIES = 400
ARCHITECTURE = {
    "name": "cnn",
    "config": {"in_channels": 1, "num_classes": CLASSES, "channels": [16, 32], "image_size": [8, 8]},
}


class Cnn(nn.Module):
    """The user's own network. Its tensors have the names and shapes of the registered `cnn` above."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)])
        self.pool = nn.MaxPool2d(2)
        self.layers = nn.ModuleList([nn.Linear(32 * 2 * 2, CLASSES)])

    def forward(self, images: Tensor) -> Tensor:
        """[B, 1, 8, 8] → [B, 10]."""
        for conv in self.convs:
            images = self.pool(gelu(conv(images)))
        logits: Tensor = self.layers[0](images.flatten(1))
        return logits


@dataclass(frozen=True)
class Digits:
    """Training images [N, 1, 8, 8] and the labels given, `flipped` [N] where wrong; a clean query set."""

    images: np.ndarray
    labels: np.ndarray
    flipped: np.ndarray
    query_images: np.ndarray
    query_labels: np.ndarray


def digits(seed: int, samples: int, share: float = 0.1) -> Digits:
    """`samples` training images, `share` of them with another label, and 400 others as they are.

    Raises:
        ValueError: more samples than there are.
    """
    pixels, truth = load_digits(return_X_y=True)
    if not 0 < samples <= len(pixels) - QUERIES:
        raise ValueError(
            f"samples must be 1 to {len(pixels) - QUERIES}: {QUERIES} of the digits are the query set"
        )
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = truth.astype(np.int64)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    train, query = order[:samples], order[samples : samples + QUERIES]
    flipped = np.zeros(samples, dtype=bool)
    flipped[rng.choice(samples, round(share * samples), replace=False)] = True
    given = labels[train]
    given[flipped] = (given[flipped] + rng.integers(1, CLASSES, flipped.sum())) % CLASSES
    return Digits(images[train], given, flipped, images[query], labels[query])


def train(data: Digits, recorder: Recorder, *, seed: int, steps: int, batch: int, rate: float) -> Cnn:
    """A plain PyTorch loop, SGD with a cosine schedule; the recorder is all that diffin adds to it."""
    torch.manual_seed(seed)
    model = Cnn()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    shuffled = torch.empty(0, dtype=torch.long)
    for step in range(1, steps + 1):
        if len(shuffled) < batch:
            shuffled = torch.randperm(len(images))
        rows, shuffled = shuffled[:batch], shuffled[batch:]
        lr = optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        optimizer.zero_grad()
        cross_entropy(model(images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        recorder.step(model, step, lr)
    recorder.finish(model, steps)
    return model


@torch.no_grad()
def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    return float((model(torch.from_numpy(images)).argmax(1) == torch.from_numpy(labels)).float().mean())
