"""Every reader of strangers' files, by name, and what the worker asks of it: as `worker.reading` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.influence.networks import expected_tensors
from worker.influence.networks.build import build
from worker.loading import Asked
from worker.reading import _as_json

FORMATS = ("npz", "safetensors", "parquet", "csv", "jsonl", "imagefolder", "webdataset", "tar")
READERS = (*FORMATS, "tokenizer", "checkpoint", "optimizer_state", "batch_order", "graph")
MLP = {"in_features": 4, "hidden": [3], "num_classes": 3, "activation": "gelu"}
SHAPES = {
    "layers.0.weight": (3, 4), "layers.0.bias": (3,), "layers.1.weight": (3, 3), "layers.1.bias": (3,)
}  # fmt: skip
TEXTS = b'{"text": "a good film", "label": 1}\n{"text": "bad", "label": 0}\n'  # what a tokenizer is tried on


def request(reader: str, path: Path, folder: Path, asked: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name, argument) of the call behind the fence that reads the file in `path`.

    Args:
        folder: an empty one: what is read is written to `folder/out`.
        asked: as `worker.loading.Asked` has it.
    """
    out = folder / "out"
    if reader in FORMATS or reader == "tokenizer":
        out.mkdir()
        announced = reader
        if reader == "tokenizer":
            announced, asked = "jsonl", {"tokenizer": str(path), **asked}
            path = folder / "texts.jsonl"
            path.write_bytes(TEXTS)
        options = vars(Asked()) | dict(asked)
        return "dataset", {"path": str(path), "announced": announced, "out": str(out), "asked": options}
    argument = {"path": str(path), "out": str(out)}
    if reader in ("checkpoint", "optimizer_state"):
        return reader, argument | {"expected": _as_json(expected_tensors(build("mlp", MLP)))}
    return reader, argument | ({"scratch": str(folder)} if reader == "batch_order" else {})
