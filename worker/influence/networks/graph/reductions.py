"""Sums, means, norms and extremes over axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from worker.influence.networks.graph.registry import GraphError, Tensor, operator, positive

Axes = Sequence[int] | None


def _over(x: Tensor, axes: Axes, noop: int) -> list[int]:
    """The axes to reduce over, each counted from the front; none is empty."""
    if axes:
        return [positive(axis, x.dim()) for axis in axes]
    return [] if noop else list(range(x.dim()))


@operator("ReduceSum", host=(1,))
def reduce_sum(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    over = _over(x, axes, noop_with_empty_axes)
    return x.sum(over, keepdim=bool(keepdims)) if over else x


@operator("ReduceMean", host=(1,))
def reduce_mean(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    over = _over(x, axes, noop_with_empty_axes)
    return x.mean(over, keepdim=bool(keepdims)) if over else x


@operator("ReduceMax", host=(1,))
def reduce_max(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    over = _over(x, axes, noop_with_empty_axes)
    return torch.amax(x, over, bool(keepdims)) if over else x


@operator("ReduceMin", host=(1,))
def reduce_min(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    over = _over(x, axes, noop_with_empty_axes)
    return torch.amin(x, over, bool(keepdims)) if over else x


@operator("ReduceProd", host=(1,))
def reduce_prod(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    for axis in sorted(_over(x, axes, noop_with_empty_axes), reverse=True):
        x = torch.prod(x, axis, bool(keepdims))
    return x


@operator("ReduceL1", host=(1,))
def reduce_l1(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    over = _over(x, axes, noop_with_empty_axes)
    return x.abs().sum(over, keepdim=bool(keepdims)) if over else x.abs()


@operator("ReduceL2", host=(1,))
def reduce_l2(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    over = _over(x, axes, noop_with_empty_axes)
    return torch.linalg.vector_norm(x, dim=over, keepdim=bool(keepdims)) if over else x.abs()


@operator("ReduceSumSquare", host=(1,))
def reduce_sum_square(
    x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    over = _over(x, axes, noop_with_empty_axes)
    squares = torch.square(x)
    return squares.sum(over, keepdim=bool(keepdims)) if over else squares


@operator("ReduceLogSumExp", host=(1,))
def reduce_log_sum_exp(
    x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    over = _over(x, axes, noop_with_empty_axes)
    return torch.logsumexp(x, over, bool(keepdims)) if over else x


@operator("ReduceLogSum", host=(1,))
def reduce_log_sum(
    x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return torch.log(reduce_sum(x, axes, keepdims=keepdims, noop_with_empty_axes=noop_with_empty_axes))


@operator("ArgMax")
def argmax(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    _first(select_last_index)
    return torch.argmax(x, axis, bool(keepdims))


@operator("ArgMin")
def argmin(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    _first(select_last_index)
    return torch.argmin(x, axis, bool(keepdims))


def _first(select_last_index: int) -> None:
    if select_last_index:
        raise GraphError("select_last_index is not supported")


@operator("CumSum", host=(1,))
def cumsum(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    turned = torch.flip(x, [axis]) if reverse else x
    found = torch.cumsum(turned, axis, dtype=x.dtype)
    found = found - turned if exclusive else found
    return torch.flip(found, [axis]) if reverse else found
