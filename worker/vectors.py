"""What passes between the units of a job, as files: the sweeps' vectors and a block's columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from worker.influence.methods import Chunk, Sweep
from worker.influence.task import Tensors
from worker.loading.tensors import write_tensors

CARRY = "carry."
COLUMNS = [("contribution", "<f8"), ("loss", "<f8"), ("prediction", "<f8"), ("self_influence", "<f8")]


def save_sweeps(sweeps: Iterable[Sweep], number: int, path: Path) -> None:
    """Writes vectors and carries of so many sweeps as one safetensors file, each as it comes.

    All are of one form. Tensors are named `<number>:<vector>/<parameter>`.
    """
    rest = iter(sweeps)
    first = next(rest)
    form = {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in _named(first)
    }

    def blocks() -> Iterator[tuple[str, Any]]:
        for each, sweep in enumerate(chain([first], rest)):
            found = dict(_named(sweep))
            yield from ((f"{each}:{name}", found[name].numpy()) for name in form)

    layout = {f"{each}:{name}": like for each in range(number) for name, like in form.items()}
    write_tensors(path, layout, blocks(), {"sweeps": str(number)})


def _named(sweep: Sweep) -> Iterator[tuple[str, torch.Tensor]]:
    named = sweep.vectors | {CARRY + name: tensors for name, tensors in (sweep.carry or {}).items()}
    for vector, tensors in named.items():
        for name, tensor in tensors.items():
            yield f"{vector}/{name}", tensor.detach().cpu()


class Sweeps:
    """What `save_sweeps` wrote, but for the notes, read when it is asked for; the vectors read last are kept.

    Vectors over the parameters come in the network's order.
    """

    def __init__(self, path: Path, parameters: list[str], device: torch.device) -> None:
        file: Any = safe_open(path, "pt", device=str(device))
        self._file = file
        self._parameters = parameters
        self._keys: list[list[tuple[str, str]]] = [[] for _ in range(int(file.metadata()["sweeps"]))]
        for key in file.keys():  # noqa: SIM118  (no mapping)
            number, _, rest = key.partition(":")
            vector, _, name = rest.partition("/")
            self._keys[int(number)].append((vector, name))
        self._kept: tuple[range, list[dict[str, Tensors]]] = range(0), []

    def __len__(self) -> int:
        return len(self._keys)

    def vectors(self, numbers: range) -> list[dict[str, Tensors]]:
        """For `score_chunk`, of each of these sweeps."""
        if self._kept[0] != numbers:
            self._kept = range(0), []  # let go of before others are read
            self._kept = numbers, [self._read(number, carry=False) for number in numbers]
        return self._kept[1]

    def carry(self, number: int) -> dict[str, Tensors] | None:
        """For the sweep at the checkpoint before."""
        return self._read(number, carry=True) or None

    def _read(self, number: int, *, carry: bool) -> dict[str, Tensors]:
        found: dict[str, Tensors] = {}
        for vector, name in self._keys[number]:
            if vector.startswith(CARRY) == carry:
                tensor = self._file.get_tensor(f"{number}:{vector}/{name}")
                # a copy of its own: in the file, it may begin at any byte
                found.setdefault(vector.removeprefix(CARRY), {})[name] = tensor.clone()
        # a vector over other names (a batch, say) stays as it is
        return {
            vector: {name: tensors[name] for name in self._parameters}
            if tensors.keys() == set(self._parameters)
            else tensors
            for vector, tensors in found.items()
        }


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """One after the other as one, on the CPU."""
    own = [part.self_influence.cpu() for part in chunks if part.self_influence is not None]
    return Chunk(
        torch.cat([part.contribution.cpu() for part in chunks]),
        torch.cat([part.loss.cpu() for part in chunks]),
        torch.cat([part.prediction.cpu() for part in chunks]),
        torch.cat(own) if own else None,
    )


def save_block(chunks: Sequence[Chunk], path: Path) -> None:
    """Writes a block's columns as one .npy file."""
    with path.open("wb") as file:  # np.save adds a suffix to a path that has none
        np.save(file, block_columns(chunks))


def block_columns(chunks: Sequence[Chunk]) -> np.ndarray[Any, Any]:
    """A block as one structured array; self_influence is NaN where a method has none.

    It comes once, or once for each query sample: then `influences` holds each one's contribution, and
    `contribution` their mean.
    """
    queries, first = len(chunks), chunks[0]
    wide = [("influences", "<f4", (queries,))] if queries > 1 else []
    block = np.empty(len(first.loss), dtype=np.dtype([*COLUMNS, *wide]))
    for name in ("loss", "prediction", "self_influence"):
        values = getattr(first, name)
        block[name] = np.nan if values is None else values.double().numpy()
    each = np.stack([chunk.contribution.double().numpy() for chunk in chunks], axis=1)
    block["contribution"] = each[:, 0] if queries == 1 else each.mean(axis=1)
    if wide:
        block["influences"] = each
    return block
