"""What passes between the units of a job, as files: the sweep's vectors and a block's columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from worker.influence.methods import Chunk, Sweep
from worker.influence.task import Tensors

CARRY = "carry."
COLUMNS = np.dtype(
    [("contribution", "<f8"), ("loss", "<f8"), ("prediction", "<f8"), ("self_influence", "<f8")]
)


def save_sweep(sweep: Sweep, path: Path) -> None:
    """Writes vectors and carry as one safetensors file, tensors named `<vector>/<parameter>`."""
    named = sweep.vectors | {CARRY + name: tensors for name, tensors in (sweep.carry or {}).items()}
    flat = {
        f"{vector}/{name}": t.contiguous().cpu()
        for vector, tensors in named.items()
        for name, t in tensors.items()
    }
    save_file(flat, path)


def load_sweep(
    path: Path, parameters: list[str], device: torch.device
) -> tuple[dict[str, Tensors], dict[str, Tensors] | None]:
    """(vectors, carry) as `save_sweep` wrote them, those over the parameters in the network's order."""
    read: dict[str, Tensors] = {}
    for name, tensor in load_file(path, device=str(device)).items():
        vector, _, part = name.partition("/")
        read.setdefault(vector, {})[part] = tensor
    found = {name: _ordered(tensors, parameters) for name, tensors in read.items()}
    carry = {name.removeprefix(CARRY): found.pop(name) for name in list(found) if name.startswith(CARRY)}
    return found, carry or None


def _ordered(tensors: Tensors, parameters: list[str]) -> Tensors:
    # a vector over other names (a batch, say) stays as it is
    return {name: tensors[name] for name in parameters} if tensors.keys() == set(parameters) else tensors


def save_block(chunks: list[Chunk], path: Path) -> None:
    """Writes a block's columns as one .npy file."""
    with path.open("wb") as file:  # np.save adds a suffix to a path that has none
        np.save(file, block_columns(chunks))


def block_columns(chunks: list[Chunk]) -> np.ndarray[Any, Any]:
    """The chunks of a block as one structured array; self_influence is NaN where a method has none."""
    block = np.empty(sum(len(chunk.loss) for chunk in chunks), dtype=COLUMNS)
    at = 0
    for chunk in chunks:
        rows = slice(at, at := at + len(chunk.loss))
        for name in COLUMNS.names or ():
            values = getattr(chunk, name)
            block[name][rows] = np.nan if values is None else values.double().cpu().numpy()
    return block
