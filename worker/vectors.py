"""What passes between the units of a job, as files: the sweep's vectors and a block's columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from worker.influence.methods import Chunk, Sweep
from worker.influence.task import Tensors

CARRY = "carry."
COLUMNS = [("contribution", "<f8"), ("loss", "<f8"), ("prediction", "<f8"), ("self_influence", "<f8")]


def save_sweeps(sweeps: Sequence[Sweep], path: Path) -> None:
    """Writes vectors and carries as one safetensors file, tensors named `<number>:<vector>/<parameter>`."""
    flat = {}
    for number, sweep in enumerate(sweeps):
        named = sweep.vectors | {CARRY + name: tensors for name, tensors in (sweep.carry or {}).items()}
        for vector, tensors in named.items():
            for name, tensor in tensors.items():
                flat[f"{number}:{vector}/{name}"] = tensor.contiguous().cpu()
    save_file(flat, path, {"sweeps": str(len(sweeps))})


def load_sweeps(path: Path, parameters: list[str], device: torch.device) -> list[Sweep]:
    """What `save_sweeps` wrote, but for the notes; vectors over the parameters in the network's order."""
    with safe_open(path, "pt", device=str(device)) as file:
        read: list[dict[str, Tensors]] = [{} for _ in range(int(file.metadata()["sweeps"]))]
        for key in file.keys():  # noqa: SIM118  (no mapping)
            number, _, rest = key.partition(":")
            vector, _, name = rest.partition("/")
            read[int(number)].setdefault(vector, {})[name] = file.get_tensor(key)
    sweeps = []
    for found in read:
        ordered = _ordered(found, parameters)
        carry = {name.removeprefix(CARRY): ordered.pop(name) for name in found if name.startswith(CARRY)}
        sweeps.append(Sweep(ordered, carry or None))
    return sweeps


def _ordered(vectors: dict[str, Tensors], parameters: list[str]) -> dict[str, Tensors]:
    # a vector over other names (a batch, say) stays as it is
    return {
        vector: {name: tensors[name] for name in parameters} if tensors.keys() == set(parameters) else tensors
        for vector, tensors in vectors.items()
    }


def save_block(chunks: Sequence[Sequence[Chunk]], path: Path) -> None:
    """Writes a block's columns as one .npy file."""
    with path.open("wb") as file:  # np.save adds a suffix to a path that has none
        np.save(file, block_columns(chunks))


def block_columns(chunks: Sequence[Sequence[Chunk]]) -> np.ndarray[Any, Any]:
    """The chunks of a block as one structured array; self_influence is NaN where a method has none.

    Each chunk comes once, or once for each query sample: then `influences` holds each one's contribution, and
    `contribution` their mean.
    """
    queries = len(chunks[0])
    wide = [("influences", "<f4", (queries,))] if queries > 1 else []
    block = np.empty(sum(len(parts[0].loss) for parts in chunks), dtype=np.dtype([*COLUMNS, *wide]))
    at = 0
    for parts in chunks:
        rows = slice(at, at := at + len(parts[0].loss))
        for name in ("loss", "prediction", "self_influence"):
            values = getattr(parts[0], name)
            block[name][rows] = np.nan if values is None else values.double().cpu().numpy()
        each = np.stack([part.contribution.double().cpu().numpy() for part in parts], axis=1)
        block["contribution"][rows] = each[:, 0] if queries == 1 else each.mean(axis=1)
        if wide:
            block["influences"][rows] = each
    return block
