"""Scores N samples as the service does, block by block into a file: time and memory, in a process of its own.

    python benchmarks/timing/growth.py N

prints {"seconds_per_sample", "peak_mib"} as JSON.
The samples repeat a pool of 4,096, so that data takes the same memory whatever N is.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.timing.cases import CASES, make
from worker.influence.methods import METHODS
from worker.influence.score import score_rows
from worker.influence.trajectory import Arrays

POOL, BLOCK, CHUNK = 4096, 8192, 256


class Growth(NamedTuple):
    seconds_per_sample: float  # CPU
    peak_mib: float


@dataclass(frozen=True)
class Repeated:
    """`size` samples, row r being row r mod 4,096 of the pool."""

    pool: Arrays
    size: int

    def __len__(self) -> int:
        return self.size

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        wanted = range(self.size) if rows is None else rows
        return self.pool.chunks(size, [row % POOL for row in wanted])


def measure(samples: int) -> Growth:
    """The scoring pass over `samples`, in a new process."""
    command = [sys.executable, "-W", "ignore", __file__, str(samples)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Growth(**json.loads(done.stdout))


def main() -> None:
    torch.set_num_threads(1)
    made = make(CASES["mlp"]._replace(samples=POOL, checkpoints=1))
    train, method = Repeated(made.train, int(sys.argv[1])), METHODS["tracin"]
    assert method.sweep is not None
    shared = method.sweep(
        made.task, made.trajectory, 0, train, made.query, None, seed=0, chunk=CHUNK, options={}
    )

    def block(start: int) -> torch.Tensor:
        rows = range(start, min(start + BLOCK, len(train)))
        at = (method, made.task, made.trajectory, 0, shared.vectors, train, rows)
        return score_rows(*at, chunk=CHUNK, options={}).contribution

    block(0)  # what only the first pass takes
    with tempfile.TemporaryFile() as file:
        begun = time.process_time()
        for start in range(0, len(train), BLOCK):
            file.write(block(start).numpy().tobytes())
        seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(Growth(seconds / len(train), peak)._asdict()))


if __name__ == "__main__":
    main()
