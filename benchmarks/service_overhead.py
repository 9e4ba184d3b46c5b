"""What the service costs on top of the engine: wall time of a job over the engine alone on the same arrays.

    python benchmarks/service_overhead.py [--quick] [--data ../shared/data/mnist]

20,000 MNIST images, the `cnn` network, 5 checkpoints, `diff_in` at its defaults, on the embedded service with
as many threads as cores. Prints peak memory of API and worker, and closes with its bar line.
"""

from __future__ import annotations

import argparse
import gzip
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the worker has it; read when torch is loaded

import numpy as np
import torch
from safetensors.torch import save
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import services, walk
from tests.chaos.processes import worker_of
from worker.influence.memory import chunk_size
from worker.influence.networks import build
from worker.influence.score import score
from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

CONFIG = {"in_channels": 1, "num_classes": 10, "channels": [16, 32], "image_size": [28, 28]}
MEAN, STD = 0.1307, 0.3081
STEPS, RATE, BATCH, ASKED = (60, 120, 180, 240, 300), 0.05, 64, 1.2


def mnist(folder: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first n training images [n, 28, 28] uint8 and their labels."""
    with (
        gzip.open(folder / "train-images-idx3-ubyte.gz") as images,
        gzip.open(folder / "train-labels-idx1-ubyte.gz") as labels,
    ):
        x = np.frombuffer(images.read(), np.uint8, offset=16).reshape(-1, 28, 28)
        y = np.frombuffer(labels.read(), np.uint8, offset=8)
    return x[:n], y[:n].astype(np.int64)


def prepared(x: np.ndarray) -> torch.Tensor:
    return (torch.tensor(x)[:, None].float() / 255 - MEAN) / STD


def train(x: torch.Tensor, y: torch.Tensor) -> dict[int, dict[str, torch.Tensor]]:
    """Plain SGD; the states at STEPS."""
    torch.manual_seed(0)
    network, saved = build("cnn", CONFIG).train(), {}
    order = torch.Generator().manual_seed(0)
    for step in range(1, STEPS[-1] + 1):
        rows = torch.randint(len(x), (BATCH,), generator=order)
        gradients = torch.autograd.grad(cross_entropy(network(x[rows]), y[rows]), list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.sub_(gradient, alpha=RATE)
        if step in STEPS:
            saved[step] = {name: t.detach().clone() for name, t in network.state_dict().items()}
    return saved


def engine_alone(
    saved: dict[int, dict[str, torch.Tensor]], train_set: Arrays, query: Arrays
) -> tuple[float, np.ndarray]:
    """Seconds of the engine in this process on arrays in memory, and its scores."""
    task = Task(build("cnn", CONFIG), "cross_entropy")
    lengths = np.diff((0, *STEPS))
    rates = tuple((RATE,) * int(n) for n in lengths)
    checkpoints = [Checkpoint(s, r, state, {}) for (s, state), r in zip(saved.items(), rates, strict=True)]
    schedule = Schedule(STEPS, rates, STEPS[-1], len(train_set))
    chunk = chunk_size(
        task, checkpoints[-1], train_set.inputs[:1], train_set.targets[:1], budget_bytes=1024**3
    )
    started = time.perf_counter()
    result = score(
        "diff_in", task, Trajectory(checkpoints, schedule), train_set, query, chunk=chunk, options={}
    )
    return time.perf_counter() - started, result.scores.numpy()


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="5,000 images and one repetition")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "mnist")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        print(f"skipped: no MNIST at {arguments.data}")
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped in any way, it stops the service too
    n, repetitions = (5_000, 1) if arguments.quick else (20_000, 3)
    x, y = mnist(arguments.data, n + 500)
    inputs, targets = prepared(x), torch.tensor(y)
    saved = train(inputs[:n], targets[:n])
    train_set, query = Arrays(inputs[:n], targets[:n]), Arrays(inputs[n:], targets[n:])
    torch.set_num_threads(os.cpu_count() or 1)
    ratios = []
    with (
        tempfile.TemporaryDirectory() as folder,
        services.embedded(Path(folder), LEASE_SECONDS="15") as service,
    ):
        with service.client() as client:
            run = walk.trajectory(
                client, "cnn", CONFIG, preprocessing={"mean": [MEAN], "std": [STD]}, train_size=n
            )
            for step, state in saved.items():
                assert (
                    walk.checkpoint(client, run, save(state), step, learning_rate=RATE)["status"] == "ready"
                )
            given = walk.dataset(client, walk.npz(inputs=x[:n], targets=y[:n]))["id"]
            asked = walk.dataset(client, walk.npz(inputs=x[n:], targets=y[n:]))["id"]
            for _ in range(repetitions):
                started = time.perf_counter()
                job = walk.finished(
                    client, walk.ok(walk.post_job(client, run, given, asked), 202)["id"], 1200
                )
                service_seconds = time.perf_counter() - started
                assert job["status"] == "succeeded", job
                ours = np.array([row["score"] for row in walk.scores(client, job["id"])])
                engine_seconds, theirs = engine_alone(saved, train_set, query)
                ratios.append(service_seconds / engine_seconds)
                print(
                    f"service {service_seconds:.2f} s, engine alone {engine_seconds:.2f} s, "
                    f"ratio {ratios[-1]:.3f}, scores differ by at most {np.abs(ours - theirs).max():.1e}",
                    flush=True,
                )
        api, worker = service.process.pid, worker_of(service.process.pid)
        print(f"peak memory: API {peak_mib(api):.0f} MiB, worker {peak_mib(worker):.0f} MiB")
    figure = statistics.median(ratios)
    print(f"bar: service.overhead {figure:.3f} {ASKED} {'ok' if figure <= ASKED else 'short'}")


if __name__ == "__main__":
    main()
