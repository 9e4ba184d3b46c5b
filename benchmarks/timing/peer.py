"""captum's TracInCP on the same arrays and checkpoints, in a process of the peers' own environment."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.timing.cases import Case, Made

BATCHES = (16, 64, 256)


class Way(NamedTuple):
    """How captum is asked: batch size, and whether it takes the gradients of a batch's samples at once."""

    batch: int
    sample_wise: bool

    def __str__(self) -> str:
        return f"batch {self.batch}, sample_wise_grads_per_batch={self.sample_wise}"


class Answer(NamedTuple):
    seconds: float  # CPU
    wall: float
    scores: torch.Tensor  # [samples]


class Captum:
    """A process that answers one job after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, way: Way, samples: int, threads: int) -> Answer | str:
        """The job's answer, or why there is none."""
        assert self.process.stdin and self.process.stdout
        job = {"samples": samples, "batch": way.batch, "sample_wise": way.sample_wise, "threads": threads}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("captum's process ended: its error is above")
        found = json.loads(line)
        if "error" in found:
            return str(found["error"])
        return Answer(found["seconds"], found["wall"], torch.tensor(found["scores"], dtype=torch.float64))

    def fastest(self, samples: int, threads: int) -> list[Way]:
        """The batch size that takes the least CPU time, with `sample_wise_grads_per_batch` and without."""
        self.run(Way(BATCHES[0], False), samples, threads)  # warms up
        best: list[Way] = []
        for sample_wise in (True, False):
            ways = [Way(batch, sample_wise) for batch in BATCHES]
            answers = {way: self.run(way, samples, threads) for way in ways}
            seconds = {way: found.seconds for way, found in answers.items() if isinstance(found, Answer)}
            if seconds:
                best.append(min(seconds, key=lambda way: seconds[way]))
        return best


@contextmanager
def started(python: Path, case: Case, made: Made) -> Iterator[Captum]:
    """captum with the case's network, data and checkpoints, read from files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(
            {
                "network": case.network, "config": dict(case.config),
                "inputs": made.train.inputs, "targets": made.train.targets,
                "query_inputs": made.query.inputs, "query_targets": made.query.targets,
            },
            folder / "setting.pt",
        )  # fmt: skip
        for k, checkpoint in enumerate(made.trajectory.checkpoints):
            torch.save({**checkpoint.params, **checkpoint.buffers}, folder / f"checkpoint{k}.pt")
        script = str(Path(__file__).with_name("peer_side.py"))
        process = subprocess.Popen(
            [str(python), "-W", "ignore", script, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield Captum(process)
        finally:
            process.communicate()
