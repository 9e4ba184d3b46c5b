"""How well a trained network does on a data set."""

from __future__ import annotations

from typing import TypedDict

import torch

from worker.influence.memory import chunk_size, over_chunks
from worker.influence.task import Tensors
from worker.influence.trajectory import Checkpoint, Data
from worker.training import TrainJob


class Outcome(TypedDict):
    """Means over the samples; no accuracy where targets are no classes."""

    loss: float
    accuracy: float | None


def outcome(job: TrainJob, data: Data, params: Tensors, held: Tensors, memory_bytes: int) -> Outcome:
    """Loss and accuracy of the network with these tensors."""
    task, checkpoint = job.task, Checkpoint(job.total, (), params, held)
    inputs, targets = next(data.chunks(1, range(1)))
    chunk = chunk_size(task, checkpoint, inputs, targets, budget_bytes=memory_bytes)
    classes = task.loss not in ("mse", "next_token") and targets.numel() == 1

    @torch.no_grad()
    def sums(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, int]:
        outputs = task.outputs(params, held, inputs, targets)
        right = (task.predictions(outputs, targets) == targets.reshape(-1)).sum() if classes else 0
        return float(task.losses_of(outputs, targets).double().sum()), int(right)

    found = list(over_chunks(sums, data, chunk))
    return {
        "loss": sum(loss for loss, _ in found) / len(data),
        "accuracy": sum(right for _, right in found) / len(data) if classes else None,
    }
