"""How well a trained network does on a data set."""

from __future__ import annotations

from typing import TypedDict

import torch

from worker.influence.memory import chunk_size, over_chunks
from worker.influence.task import Tensors
from worker.influence.trajectory import Checkpoint, Data
from worker.training import TrainJob


class Outcome(TypedDict):
    """Means over the samples; accuracy of a language model is that of its tokens, and there is none where
    targets are no classes."""

    loss: float
    accuracy: float | None


def outcome(job: TrainJob, data: Data, params: Tensors, held: Tensors, memory_bytes: int) -> Outcome:
    """Loss and accuracy of the network with these tensors."""
    task, checkpoint = job.task, Checkpoint(job.total, (), params, held)
    inputs, targets = next(data.chunks(1, range(1)))
    chunk = chunk_size(task, checkpoint, inputs, targets, budget_bytes=memory_bytes)
    labels = task.loss in ("cross_entropy", "bce_with_logits") and targets.numel() == 1
    counted = labels or task.in_groups or task.loss == "next_token"

    @torch.no_grad()
    def sums(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, float]:
        if not counted:
            return float(task.losses(params, held, inputs, targets).double().sum()), 0.0
        outputs = task.outputs(params, held, inputs, targets)
        loss = float(task.losses_of(outputs, targets).double().sum())
        found = task.predictions(outputs, targets)
        if task.in_groups:
            found = found == torch.arange(len(found), device=found.device) % task.group
        return loss, float((found == targets.reshape(-1)).sum() if labels else found.sum())

    found = list(over_chunks(sums, data, chunk, group=task.group))
    return {
        "loss": sum(loss for loss, _ in found) / len(data),
        "accuracy": sum(right for _, right in found) / len(data) if counted else None,
    }
