"""Networks that the service has never seen, and data with wrong labels to train them on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as nnf

SAMPLES, QUERIES, WRONG = 300, 300, 30


class Data(NamedTuple):
    """Training samples, the first `WRONG` of them with a wrong label, and a clean query set."""

    inputs: np.ndarray
    labels: np.ndarray
    query_inputs: np.ndarray
    query_labels: np.ndarray


def mislabelled(inputs: np.ndarray, labels: np.ndarray, classes: int) -> Data:
    shifts = np.random.default_rng(1).integers(1, classes, WRONG)
    given = labels[:SAMPLES].copy()
    given[:WRONG] = (given[:WRONG] + shifts) % classes
    end = SAMPLES + QUERIES
    return Data(inputs[:SAMPLES], given, inputs[SAMPLES:end], labels[SAMPLES:end])


def digits() -> Data:
    """8 x 8 images of digits, float [n, 1, 8, 8]."""
    pixels, labels = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(pixels))
    images = (pixels[rows] / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    return mislabelled(images, labels[rows].astype(np.int64), 10)


VOCABULARY, LENGTH, TOPICS = 60, 12, 4


def sentences() -> Data:
    """Token ids [n, 12] of four topics, each with words of its own among common ones."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, TOPICS, SAMPLES + QUERIES)
    common = rng.integers(0, 20, (len(labels), LENGTH))
    own = 20 + 10 * labels[:, None] + rng.integers(0, 10, (len(labels), LENGTH))
    tokens = np.where(rng.random((len(labels), LENGTH)) < 0.4, own, common)
    return mislabelled(tokens.astype(np.int64), labels.astype(np.int64), TOPICS)


class Residual(nn.Module):
    """Convolutions with a residual connection and a norm, as people write them."""

    def __init__(self, norm: type[nn.Module] = nn.GroupNorm) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, padding=1)
        self.norm1, self.norm2 = (
            nn.BatchNorm2d(12) if norm is nn.BatchNorm2d else nn.GroupNorm(3, 12) for _ in range(2)
        )
        self.inner = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nnf.max_pool2d(nnf.silu(self.norm1(self.stem(x))), 2)
        x = x + nnf.silu(self.norm2(self.inner(x)))
        logits: Tensor = self.head(self.drop(x.flatten(1)))
        return logits


class Reader(nn.Module):
    """A bag of words that attends: tokens in, topics out; its tensors are shared with nobody's."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 16)
        self.weigh = nn.Linear(16, 1)
        self.mix = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU())
        self.out = nn.Linear(16, TOPICS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        x = (x * self.weigh(x).softmax(1)).sum(1)
        logits: Tensor = self.out(x + self.mix(x))
        return logits
