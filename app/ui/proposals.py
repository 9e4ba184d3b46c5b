"""What to train on a data set, and by what recipe, where nobody has said: a start, to be changed at will."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from app.catalog import image_shape
from app.catalog.training import LOSS_OF
from app.store.tables import Dataset

SMALL = 48  # pixels of the longer side up to which a network's head sees the whole image
STEPS = 600  # of a run, about
MOST_EPOCHS = 30


@dataclass(frozen=True)
class Proposal:
    """A task, and the networks that take a data set's samples: their configs by name, the best bet first."""

    task: dict[str, Any]
    networks: dict[str, dict[str, Any]]
    batch_size: int
    epochs: int
    optimizer: dict[str, Any]
    learning_rate: float

    @property
    def first(self) -> str:
        """The network to begin with; "" where none of ours takes such samples."""
        return next(iter(self.networks), "")


def propose(dataset: Dataset) -> Proposal:
    """For a data set that is ready."""
    info, n = dataset.info, dataset.num_samples or 0
    given, target = info["input"], info["target"]
    task, outputs = _task(target, dataset.num_classes)
    networks = _networks(tuple(given["shape"]), given, outputs) if task != "causal_lm" else {}
    batch_size = 64 if n >= 512 else 16
    epochs = min(MOST_EPOCHS, max(3, round(STEPS * batch_size / max(1, n))))
    attention = "transformer" in networks
    return Proposal(
        {"type": task, "loss": LOSS_OF[task]},
        networks,
        batch_size,
        epochs,
        {"name": "adam"} if attention else {"name": "sgd", "momentum": 0.9},
        0.001 if attention else 0.05 if task == "classification" else 0.01,
    )


def _task(target: dict[str, Any], num_classes: int | None) -> tuple[str, int]:
    """What the targets are for, and how many outputs that takes."""
    if target.get("taken_from"):
        return "causal_lm", 0
    if num_classes and not target["shape"]:
        return "classification", max(2, num_classes)
    return "regression", prod(target["shape"])


def _networks(shape: tuple[int, ...], given: dict[str, Any], outputs: int) -> dict[str, dict[str, Any]]:
    if given["dtype"] == "int64" and len(shape) == 1 and (given.get("min") or 0) >= 0:
        vocabulary = int(given.get("max") or 0) + 1
        sizes = {"d_model": 64, "num_heads": 4, "num_layers": 2, "dim_feedforward": 128}
        config = {"vocab_size": max(2, vocabulary), "max_length": shape[0], "num_classes": outputs}
        return {"transformer": config | sizes}
    width = prod(shape)
    flat: dict[str, dict[str, Any]] = {
        "mlp": {"in_features": width, "hidden": [_hidden(width)], "num_classes": outputs},
        "linear": {"in_features": width, "num_classes": outputs},
    }
    image = image_shape(shape, given["dtype"]) if given.get("kind") == "image" or len(shape) == 3 else None
    if image is None or min(image[1:]) < 4:
        return flat
    convolutions: dict[str, Any] = {"in_channels": image[0], "num_classes": outputs}
    if max(image[1:]) <= SMALL:
        convolutions |= {"channels": [16, 32], "image_size": list(image[1:])}
    else:
        convolutions |= {"channels": [16, 32, 64], "image_size": None}
    return {"cnn": convolutions, **flat}


def _hidden(width: int) -> int:
    return 32 if width <= 128 else 64 if width <= 1024 else 128
