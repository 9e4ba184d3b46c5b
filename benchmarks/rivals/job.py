"""What each tool is handed, in files, and what it hands back: read and written on its own side.

A folder holds `arrays.npz`, the checkpoints `0.safetensors` … and `job.json`. This module and the runners
beside it need torch, numpy and safetensors alone, so that they run where the other tools are installed.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from worker.influence.networks import build
from worker.influence.trajectory import Arrays

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Job:
    """Scores are asked for of every training sample for every query.

    Attributes:
        checkpoints: the network's parameters at the end of each part of the run.
        described: `job.json`: network, config, and the learning rates of the steps of each part.
    """

    train: Arrays
    query: Arrays
    checkpoints: Sequence[Tensors]
    described: Mapping[str, Any]

    @property
    def rates(self) -> list[list[float]]:
        found: list[list[float]] = self.described["rates"]
        return found

    def network(self, k: int = -1) -> nn.Module:
        """The network as it was at checkpoint k."""
        made = build(self.described["network"], self.described["config"])
        made.load_state_dict(self.checkpoints[k])
        return made


class Cost(NamedTuple):
    """Of the scores alone, without loading libraries and data; the peak is the whole process's."""

    cpu_s: float
    peak_mib: float


def write(job: Job, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "x": job.train.inputs, "y": job.train.targets,
        "query_x": job.query.inputs, "query_y": job.query.targets,
    }  # fmt: skip
    np.savez(folder / "arrays.npz", **{name: t.numpy() for name, t in arrays.items()})  # type: ignore[arg-type]
    for k, params in enumerate(job.checkpoints):
        save_file({name: t.contiguous() for name, t in params.items()}, folder / f"{k}.safetensors")
    (folder / "job.json").write_text(json.dumps(dict(job.described)))


def read(folder: Path) -> Job:
    with np.load(folder / "arrays.npz") as arrays:
        x, y, query_x, query_y = (torch.from_numpy(arrays[name]) for name in ("x", "y", "query_x", "query_y"))
    described = json.loads((folder / "job.json").read_text())
    checkpoints = [load_file(folder / f"{k}.safetensors") for k in range(len(described["rates"]))]
    return Job(Arrays(x, y), Arrays(query_x, query_y), checkpoints, described)


def run(methods: Mapping[str, Callable[[Job], torch.Tensor]]) -> None:
    """A runner's command line: `<folder> <method>` writes scores and cost to `<folder>/<method>.npy|json`.

    Args:
        methods: by name, each giving scores [N, Q], positive = harmful.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("method", choices=methods)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    job = read(chosen.folder)
    started = time.process_time()
    scores = methods[chosen.method](job)
    spent = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.save(chosen.folder / f"{chosen.method}.npy", scores.detach().numpy().astype(np.float32))
    (chosen.folder / f"{chosen.method}.json").write_text(json.dumps(Cost(spent, peak)._asdict()))
