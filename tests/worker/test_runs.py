"""Stored runs as the engine takes them."""

from __future__ import annotations

import gc
import weakref
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from worker.influence.trajectory import Schedule
from worker.job import KEPT
from worker.runs import Checkpoints, Names


@pytest.mark.slow
def test_few_checkpoints_are_kept_however_many_runs_a_job_is_over(tmp_path: Path) -> None:
    recent = lru_cache(maxsize=KEPT)(Checkpoints.load)
    schedule = Schedule((1, 2), ((0.1,), (0.1,)), total_steps=2, train_size=4)
    runs, names = [], Names(["w"], ["w"])
    for number in range(5):
        files = [tmp_path / f"{number}-{k}" for k in range(2)]
        for k, file in enumerate(files):
            save_file({"w": torch.full((3,), float(2 * number + k))}, file)
        paths = [(file, None) for file in files]
        runs.append(Checkpoints(paths, schedule, names, torch.device("cpu"), recent))
    read = [weakref.ref(run[k]) for run in runs for k in range(2)]
    gc.collect()
    assert sum(one() is not None for one in read) == KEPT
    assert [float(run[k].params["w"][0]) for run in runs for k in range(2)] == list(range(10))
    assert runs[4][1] is runs[4][1]
