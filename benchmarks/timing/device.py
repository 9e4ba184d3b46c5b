"""One scoring pass on a GPU (or, to try the path, a CPU), in each precision: speed, accuracy, peak memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from benchmarks.timing.cases import CASES, Case, Made, make
from worker.influence.directional import directional_derivative, mixed
from worker.influence.memory import chunk_size
from worker.influence.trajectory import Arrays, Checkpoint

CHUNK_BYTES = 8 << 30
CHECKED = 512  # samples whose derivatives are compared with float32's

# As wide and deep as GPT-2's smallest, 124 million parameters; the registered network is an encoder with a
# class head, so attention looks both ways. Its matrix products are a decoder's.
DECODER = {
    "vocab_size": 50257, "max_length": 1024, "num_classes": 2, "d_model": 768, "num_heads": 12,
    "num_layers": 12, "dim_feedforward": 3072, "norm_first": True, "pad_id": None,
}  # fmt: skip
LARGE = {
    "resnet18": CASES["resnet18"]._replace(samples=50_000, queries=512),
    "decoder": Case("transformer", DECODER, (), 4096, 64, 1),
}
TINY = {
    "resnet18": CASES["resnet18"]._replace(
        config={"num_classes": 10, "width": 8}, samples=96, queries=16
    ),
    "decoder": Case(
        "transformer", {**DECODER, "vocab_size": 64, "max_length": 16, "d_model": 32, "num_heads": 4,
        "num_layers": 2, "dim_feedforward": 64}, (), 96, 16, 1,
    ),
}  # fmt: skip
PRECISIONS = ("fp32", "tf32", "bf16")


class Figures(NamedTuple):
    """Of one network in one precision; samples are those of a second."""

    parameters: int
    chunk: int
    samples: float  # scored by first-order directional derivatives
    forward: float  # plain forward passes
    eq9: float  # scored by nested ones
    peak_mib: float  # allocated on the GPU; NaN on a CPU
    error: float  # ‖derivatives - float32's‖ relative to float32's


def measure(case: Case, precision: str, device: torch.device, reference: torch.Tensor | None) -> Any:
    """(Figures, the derivatives of the first `CHECKED` samples); `reference`: float32's derivatives."""
    with _allowed(precision):
        made = make(case, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        [checkpoint] = made.trajectory.checkpoints
        u = _direction(checkpoint, seed=1)
        g = _direction(checkpoint, seed=2)
        first = Arrays(made.train.inputs[:1], made.train.targets[:1])
        chunk = chunk_size(made.task, checkpoint, first.inputs, first.targets, budget_bytes=CHUNK_BYTES)
        at = (made.task, checkpoint)

        def derivatives(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return directional_derivative(*at, x, y, u).derivatives

        def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return made.task.losses(checkpoint.params, checkpoint.buffers, x, y)

        def nested(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return mixed(*at, x, y, u, g, u).derivatives

        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        scored = _per_second(derivatives, made, chunk, device)
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else float("nan")
        checked = Arrays(made.train.inputs[:CHECKED], made.train.targets[:CHECKED])
        found = torch.cat([derivatives(x, y).double().cpu() for x, y in checked.chunks(chunk)])
        error = 0.0 if reference is None else float((found - reference).norm() / reference.norm())
        return Figures(
            sum(t.numel() for t in checkpoint.params.values()),
            chunk,
            scored,
            _per_second(forward, made, chunk, device),
            _per_second(nested, made, max(1, chunk // 4), device),
            peak,
            error,
        ), found


def _direction(checkpoint: Checkpoint, seed: int) -> dict[str, torch.Tensor]:
    """Drawn on the CPU in float32, so that all precisions and devices have the same."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(t.shape, generator=generator).to(t.device, t.dtype)
        for name, t in checkpoint.params.items()
    }


def _per_second(
    function: Callable[[torch.Tensor, torch.Tensor], Any], made: Made, chunk: int, device: torch.device
) -> float:
    """Samples a second of wall time, over the whole training set, after one chunk to warm up."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for x, y in made.train.chunks(chunk, range(min(chunk, len(made.train)))):
        function(x, y)
    wait()
    begun = time.perf_counter()
    for x, y in made.train.chunks(chunk):
        function(x, y)
    wait()
    return len(made.train) / (time.perf_counter() - begun)


@contextmanager
def _allowed(precision: str) -> Iterator[None]:
    """TF32 where it is asked for, and nowhere else."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
