"""What the model says a sample's label is, on average over a run's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from worker.influence.memory import over_chunks
from worker.influence.task import Task
from worker.influence.trajectory import Checkpoint, Data, Trajectory

SURE = 0.5  # of the probability, from which on another label is worth proposing


def trained(run: Trajectory) -> list[int]:
    """Numbers of the run's checkpoints but for the initial state, which knows nothing yet."""
    every = range(len(run.checkpoints))
    return [k for k in every if run.schedule.steps[k]] or list(every)


def mean_probabilities(
    task: Task,
    runs: Sequence[Trajectory],
    data: Data,
    rows: Sequence[int],
    *,
    chunk: int,
    first: Sequence[int] | None = None,
) -> torch.Tensor:
    """Probability of each class, the mean over all trained checkpoints of the runs: float64 [n, C] of `rows`.

    The mean over checkpoints knows more than the last of them: by the end a network has often learned wrong
    labels by heart, but early in training it still says what it takes a sample for. It is a cautious estimate
    of how often the class is right: of flipped labels given .5 to .6, 45 to 98% were (docs/decisions/0019).

    Args:
        first: only so many of each run's trained checkpoints.

    Raises:
        ValueError: the task tells no class of a sample.
    """
    counts = [None] * len(runs) if first is None else first
    places = [(run, k) for run, count in zip(runs, counts, strict=True) for k in trained(run)[:count]]
    each = (_at(task, run.checkpoints[k], data, rows, chunk) for run, k in places)
    total = next(each)
    for found in each:
        total += found
    return total / len(places)


def _at(
    task: Task,
    checkpoint: Checkpoint,
    data: Data,
    rows: Sequence[int],
    chunk: int,
) -> torch.Tensor:
    """The probabilities of one checkpoint, [n, C]."""

    @torch.no_grad()
    def of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return probabilities(task, task.outputs(checkpoint.params, checkpoint.buffers, inputs, targets))

    return torch.cat(list(over_chunks(of, data, chunk, rows)))


def probabilities(task: Task, outputs: torch.Tensor) -> torch.Tensor:
    """The network's outputs [B, …] as probabilities of the classes, float64 [B, C] on the CPU."""
    if task.loss == "cross_entropy" and outputs.dim() == 2:
        return outputs.double().softmax(1).cpu()
    if task.loss == "bce_with_logits" and outputs.numel() == len(outputs):
        positive = outputs.double().reshape(-1).sigmoid().cpu()
        return torch.stack([1 - positive, positive], 1)
    raise ValueError(f"Outputs {tuple(outputs.shape)} of a task with {task.loss} are no class of a sample")


def suggested(found: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(the likeliest class where it is not the given one, its probability), NaN elsewhere: [n] each.

    Args:
        found: probabilities [n, C].
        labels: as given, [n].
    """
    confidence, likeliest = found.max(1)
    other = likeliest != labels
    nothing = torch.full_like(confidence, torch.nan)
    return torch.where(other, likeliest.double(), nothing), torch.where(other, confidence, nothing)
