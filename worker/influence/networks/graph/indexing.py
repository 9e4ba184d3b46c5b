"""What takes entries by indices that may be data."""

from __future__ import annotations

import torch
from torch.nn import functional as nnf

from worker.influence.networks.graph.registry import GraphError, Tensor, operator, positive


@operator("Gather")
def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """x with its axis replaced by the axes of `indices`; of a matrix's rows it is an embedding."""
    axis = positive(axis, x.dim())
    indices = _from_the_front(indices, x.shape[axis])
    if axis == 0 and x.dim() == 2 and x.is_floating_point() and indices.dim():
        return nnf.embedding(indices, x)
    flat = torch.index_select(x, axis, indices.reshape(-1))
    return flat.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _from_the_front(indices: Tensor, size: int) -> Tensor:
    """Negative indices count from the end."""
    return torch.where(indices < 0, indices + size, indices).long()


def select(x: Tensor, index: int, axis: int) -> Tensor:
    """Gather by one index that is known."""
    return x[(slice(None),) * axis + (index,)]


@operator("GatherElements")
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis = positive(axis, x.dim())
    return torch.gather(x, axis, _from_the_front(indices, x.shape[axis]))


@operator("GatherND")
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """x at the places that the last axis of `indices` tells."""
    places = indices.unbind(-1)
    if batch_dims == 0:
        return x[tuple(places)]
    if batch_dims > 1:
        raise GraphError("GatherND with more than one batch axis is not supported")
    rows = torch.arange(x.shape[0], device=x.device).reshape(-1, *[1] * (places[0].dim() - 1))
    return x[(rows, *places)]


@operator("ScatterElements")
def scatter_elements(
    x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    axis = positive(axis, x.dim())
    indices = _from_the_front(indices, x.shape[axis])
    if reduction == "none":
        return torch.scatter(x, axis, indices, updates)
    if reduction == "add":
        return torch.scatter_add(x, axis, indices, updates)
    raise GraphError(f"ScatterElements with reduction {reduction} is not supported")


@operator("ScatterND")
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    if reduction not in ("none", "add"):
        raise GraphError(f"ScatterND with reduction {reduction} is not supported")
    return torch.index_put(x, indices.unbind(-1), updates, accumulate=reduction == "add")


@operator("OneHot", host=(1,))
def one_hot(indices: Tensor, depth: int | list[int], values: Tensor, *, axis: int = -1) -> Tensor:
    """`values`: off, on."""
    depth = depth[0] if isinstance(depth, list) else depth
    axis = positive(axis, indices.dim() + 1)
    classes = torch.arange(depth, device=indices.device)
    classes = classes.reshape(-1, *[1] * (indices.dim() - axis))
    hit = torch.remainder(indices.unsqueeze(axis), depth) == classes
    return torch.where(hit, values[1], values[0])


@operator("TopK", host=(1,))
def top_k(
    x: Tensor,
    k: int | list[int],
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002
) -> tuple[Tensor, Tensor]:
    found = torch.topk(x, k[0] if isinstance(k, list) else k, axis, bool(largest), bool(sorted))
    return found.values, found.indices
