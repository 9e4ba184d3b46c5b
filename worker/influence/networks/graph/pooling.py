"""Pooling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as nnf

from worker.influence.networks.graph.convolution import Sizes, around, by_dimensions, halves, sizes
from worker.influence.networks.graph.registry import GraphError, Tensor, operator

MAX: dict[int, Callable[..., Tensor]] = {3: nnf.max_pool1d, 4: nnf.max_pool2d, 5: nnf.max_pool3d}
AVERAGE: dict[int, Callable[..., Tensor]] = {3: nnf.avg_pool1d, 4: nnf.avg_pool2d, 5: nnf.avg_pool3d}


@operator("MaxPool")
def max_pool(
    x: Tensor,
    *,
    kernel_shape: Sizes,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sizes | None = None,
    pads: Sizes | None = None,
    storage_order: int = 0,
    strides: Sizes | None = None,
) -> Tensor:
    n = x.dim() - 2
    before, after = halves(pads, n, auto_pad)
    if before != after or any(2 * p > k for p, k in zip(before, kernel_shape, strict=True)):
        x = nnf.pad(x, around(before, after), value=torch.finfo(x.dtype).min)
        before = (0,) * n
    function = by_dimensions(MAX, x, "MaxPool")
    return function(
        x, tuple(kernel_shape), sizes(strides, n), before, sizes(dilations, n), ceil_mode=bool(ceil_mode)
    )


@operator("AveragePool")
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sizes,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sizes | None = None,
    pads: Sizes | None = None,
    strides: Sizes | None = None,
) -> Tensor:
    n = x.dim() - 2
    before, after = halves(pads, n, auto_pad)
    if any(d != 1 for d in sizes(dilations, n)):
        raise GraphError("AveragePool with dilations is not supported")
    if before != after:
        if not count_include_pad:
            raise GraphError("AveragePool padded unevenly, the padding not counted, is not supported")
        x, before = nnf.pad(x, around(before, after)), (0,) * n
    function = by_dimensions(AVERAGE, x, "AveragePool")
    return function(
        x, tuple(kernel_shape), sizes(strides, n), before, bool(ceil_mode), bool(count_include_pad)
    )


@operator("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    return torch.amax(x, tuple(range(2, x.dim())), True)


@operator("LpPool")
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Sizes,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sizes | None = None,
    p: int = 2,
    pads: Sizes | None = None,
    strides: Sizes | None = None,
) -> Tensor:
    """(Σ |x|^p)^(1/p) over each window."""
    powers = torch.pow(x.abs(), p)
    means = average_pool(
        powers, kernel_shape=kernel_shape, auto_pad=auto_pad, ceil_mode=ceil_mode, count_include_pad=1,
        dilations=dilations, pads=pads, strides=strides,
    )  # fmt: skip
    count = 1
    for k in kernel_shape:
        count *= k
    return torch.pow(means * count, 1 / p)
