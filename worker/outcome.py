"""How well a network with given tensors does on a data set."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from worker.influence.memory import chunk_size, over_chunks
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Data

Floats = NDArray[np.float64]


class Outcome(TypedDict):
    """Means over the samples; accuracy of a language model is that of its tokens, and there is none where
    targets are no classes."""

    loss: float
    accuracy: float | None


class Each(NamedTuple):
    """What becomes of each sample: its loss, and how much of it is told right (None: nothing can be)."""

    losses: Floats
    right: Floats | None

    @property
    def outcome(self) -> Outcome:
        total = float(self.losses.sum()) / len(self.losses)
        right = float(self.right.sum()) / len(self.right) if self.right is not None else None
        return {"loss": total, "accuracy": right}


def each(task: Task, data: Data, params: Tensors, held: Tensors, memory_bytes: int) -> Each:
    """Losses [n] of the network with these tensors, and which samples it tells right."""
    checkpoint = Checkpoint(0, (), params, held)
    inputs, targets = next(data.chunks(1, range(1)))
    chunk = chunk_size(task, checkpoint, inputs, targets, budget_bytes=memory_bytes)
    labels = task.loss in ("cross_entropy", "bce_with_logits") and targets.numel() == 1
    counted = labels or task.in_groups or task.loss == "next_token"

    @torch.no_grad()
    def of(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not counted:
            losses = task.losses(params, held, inputs, targets).double().cpu()
            return losses, torch.zeros_like(losses)
        outputs = task.outputs(params, held, inputs, targets)
        found = task.predictions(outputs, targets)
        if task.in_groups:
            found = found == torch.arange(len(found), device=found.device) % task.group
        right = found == targets.reshape(-1) if labels else found
        return task.losses_of(outputs, targets).double().cpu(), right.double().cpu()

    losses, right = zip(*over_chunks(of, data, chunk, group=task.group), strict=True)
    return Each(torch.cat(losses).numpy(), torch.cat(right).numpy() if counted else None)


def outcome(task: Task, data: Data, params: Tensors, held: Tensors, memory_bytes: int) -> Outcome:
    """Loss and accuracy of the network with these tensors."""
    return each(task, data, params, held, memory_bytes).outcome
