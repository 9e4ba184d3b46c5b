"""Norms, all in evaluation mode."""

from __future__ import annotations

import torch
from torch.nn import functional as nnf

from worker.influence.networks.graph.registry import GraphError, Tensor, operator
from worker.influence.networks.graph.transforms import nested_forward_mode


@operator("BatchNormalization")
def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor:
    if training_mode:
        raise GraphError(
            "BatchNormalization was exported in training mode: call model.eval() before the export"
        )
    return nnf.batch_norm(x, mean, var, weight, bias, eps=epsilon)


@operator("InstanceNormalization")
def instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, epsilon: float = 1e-5) -> Tensor:
    """A group norm of one channel a group."""
    return nnf.group_norm(x, x.shape[1], weight, bias, epsilon)


@operator("GroupNormalization")
def group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    return nnf.group_norm(x, num_groups, weight, bias, epsilon)


@operator("LayerNormalization")
def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """Spelt out where torch's own is wrong, in nested forward mode (docs/decisions/0007)."""
    shape = x.shape[axis:]
    if not nested_forward_mode():
        weight = weight if weight.shape == shape else weight.expand(shape)
        return nnf.layer_norm(x, shape, weight, bias, epsilon)
    dims = tuple(range(-len(shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    y = centred * torch.rsqrt(torch.square(centred).mean(dims, keepdim=True) + epsilon) * weight
    return y if bias is None else y + bias


@operator("RMSNormalization")
def rms_norm(
    x: Tensor, weight: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    dims = tuple(range(axis if axis < 0 else axis - x.dim(), 0))
    return x * torch.rsqrt(torch.square(x).mean(dims, keepdim=True) + epsilon) * weight


@operator("LpNormalization")
def lp_norm(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """0 where the norm is 0."""
    length = torch.linalg.vector_norm(x, p, dim=axis, keepdim=True)
    return x / torch.where(length == 0, torch.ones_like(length), length)
