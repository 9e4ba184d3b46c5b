"""Gradients of single samples, a few at a time: the one place where they are formed."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch.func import grad, vmap

from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint

GRADIENT_BYTES = 1 << 28  # of single samples' gradients at a time


def over_gradients(
    function: Callable[..., torch.Tensor],
    params: Tensors,
    samples: tuple[torch.Tensor, ...],
    use: Callable[[Tensors], torch.Tensor],
) -> torch.Tensor:
    """use(∇_θ function(θ, sample)) of each sample, with as many gradients at a time as `GRADIENT_BYTES` hold.

    Args:
        function: (θ, one sample's tensors …) → a scalar.
        samples: tensors [B, …], B the same in all, at least 1.
        use: gradients [b, …] of b samples → [b, …].

    Returns:
        [B, …].
    """
    count, each = len(samples[0]), sum(t.nbytes for t in params.values())
    parts = min(count, ceil(count * each / GRADIENT_BYTES))
    found = vmap(grad(function), in_dims=(None, *(0 for _ in samples)))
    split = (torch.tensor_split(t, parts) for t in samples)
    return torch.cat([use(found(params, *part)) for part in zip(*split, strict=True)])


def sample_gradients(
    task: Task,
    checkpoint: Checkpoint,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    use: Callable[[Tensors], torch.Tensor],
) -> torch.Tensor:
    """use(G_z(θ_k)) of each sample z of a chunk: [B, …].

    Raises:
        ValueError: the losses depend on one another (`refuse_groups`).
    """
    refuse_groups(task)

    def loss(params: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return task.losses(params, checkpoint.buffers, x[None], y[None])[0]

    return over_gradients(loss, checkpoint.params, (inputs, targets), use)


def refuse_groups(task: Task) -> None:
    """Raises ValueError where a loss depends on its group: a gradient of one is one of the whole group."""
    if task.in_groups:
        raise ValueError(f"By {task.loss} no sample has a gradient of its own: its loss takes a whole group")


def rows_of(stacked: Tensors) -> torch.Tensor:
    """[B, P]: stacked tensors [B, …] as one flat row each, in the dictionary's order."""
    return torch.cat([part.flatten(1) for part in stacked.values()], 1)
