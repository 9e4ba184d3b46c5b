"""Ten networks exported from PyTorch against themselves: outputs, scores, and what a pass costs.

Random weights (running statistics too), random data, float32, one thread. Differences of scores are relative
to the largest; time is CPU time of the process, the median ratio over pairs that are run in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.generality.exporting import through_graph
from benchmarks.generality.zoo import ZOO, Example
from benchmarks.lab.bars import bar, table
from benchmarks.timing.clock import cpu_seconds
from worker.influence.score import score
from worker.influence.task import Loss, Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

OUTPUTS, SCORES, TIME = 1e-5, 1e-4, 1.15
METHODS = ("diff_in", "tracin")
OPTIONS = {"diff_in": {"lanczos_steps": 4, "hessian_samples": 64}}
GROUP = 8  # of the contrastive loss
TIED = {"gpt": {"wte.weight": "lm_head.weight"}}  # of two tied names an exporter keeps any one


@dataclass(frozen=True)
class Side:
    """A network as PyTorch, or by its graph, and the run it is scored in."""

    task: Task
    trajectory: Trajectory
    train: Arrays
    query: Arrays

    def scores(self, method: str) -> Tensor:
        return score(
            method, self.task, self.trajectory, self.train, self.query, options=OPTIONS.get(method, {})
        ).scores

    def forward(self) -> None:
        last = self.trajectory.checkpoints[-1]
        with torch.inference_mode():
            for x, y in self.train.chunks(64):
                self.task.outputs(last.params, last.buffers, x, y)


def measure(quick: bool, names: Sequence[str] = tuple(ZOO)) -> None:
    torch.set_num_threads(1)
    samples, rounds = (32, 7) if quick else (256, 11)
    rows: list[list[object]] = [
        ["network", "parameters", "nodes", "outputs", "diff_in", "tracin", "forward", "diff_in, time",
         "tracin, time"]
    ]  # fmt: skip
    bars = []
    for name in names:
        example = ZOO[name]
        with TemporaryDirectory() as folder:
            theirs, ours, outputs, nodes = pair(name, example, samples, Path(folder))
        scores = {method: difference(theirs.scores(method), ours.scores(method)) for method in METHODS}
        times = {
            "forward": ratio(theirs.forward, ours.forward, rounds),
            **{m: ratio(partial(theirs.scores, m), partial(ours.scores, m), rounds) for m in METHODS},
        }
        bars += [
            (f"networks.{name}.outputs", outputs, OUTPUTS),
            (f"networks.{name}.scores", max(scores.values()), SCORES),
            (f"networks.{name}.time", max(times[m] for m in METHODS), TIME),
        ]
        count = sum(p.numel() for p in theirs.trajectory.checkpoints[0].params.values())
        figures = [f"{v:.1e}" for v in (outputs, *scores.values())] + [f"{v:.2f}" for v in times.values()]
        rows.append([name, f"{count:,}", nodes, *figures])
        print(*rows[-1], flush=True)
    print(
        f"\nBy the graph against as PyTorch, {samples} samples, 2 checkpoints: largest difference of outputs,"
    )
    print("of scores relative to the largest, and the time over it\n")
    print(table(rows) + "\n")
    for name, figure, asked in bars:
        bar(name, figure, asked, at_least=False)
    print()


def pair(name: str, example: Example, samples: int, folder: Path) -> tuple[Side, Side, float, int]:
    """Both sides, the largest difference of their outputs, and how many operators the graph calls."""
    torch.manual_seed(0)
    network = example.network().eval()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    inputs = example.inputs(samples)
    graph = through_graph(network, example.inputs(3), folder)
    few = tuple(x[:16] for x in inputs)
    with torch.inference_mode():
        outputs = [found if isinstance(found, tuple) else (found,) for found in (network(*few), graph(*few))]
    largest = max(float((a - b).abs().max()) for a, b in zip(*outputs, strict=True))
    contrastive = len(inputs) > 1
    targets = inputs[1] if contrastive else example.targets(samples)
    train, query = (Arrays(inputs[0][:n], targets[:n]) for n in (samples, samples // 8))
    loss: Loss = "clip" if contrastive else "cross_entropy"
    rates = ((0.01,) * 10,) * 2
    drawn = [
        {n: p.detach() + 0.01 * torch.randn_like(p) for n, p in network.named_parameters()} for _ in rates
    ]

    def side(network: nn.Module, names: dict[str, str]) -> Side:
        checkpoints = [
            Checkpoint(10 * (k + 1), rates[k], {names.get(n, n): p for n, p in params.items()}, buffers)
            for k, params in enumerate(drawn)
        ]
        task = Task(network, loss, GROUP if contrastive else 1)
        return Side(task, Trajectory(checkpoints, Schedule((10, 20), rates, None, samples)), train, query)

    buffers = dict(network.named_buffers())
    nodes = len(graph.plan_of(few).operators)
    return side(network, {}), side(graph, TIED.get(name, {})), largest, nodes


def difference(theirs: Tensor, ours: Tensor) -> float:
    return float((theirs - ours).abs().max() / theirs.abs().max())


def ratio(theirs: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> float:
    """The median of ours over theirs, run in turns, the first pair left out."""
    cpu_seconds(theirs), cpu_seconds(ours)
    found = []
    for turn in range(rounds):
        if turn % 2:
            mine, other = cpu_seconds(ours), cpu_seconds(theirs)
        else:
            other, mine = cpu_seconds(theirs), cpu_seconds(ours)
        found.append(mine / other)
    return median(found)
