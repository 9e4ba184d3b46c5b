"""Convolutions of one, two and three dimensions, and their transposes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.nn import functional as nnf

from worker.influence.networks.graph.registry import GraphError, Tensor, operator

Sizes = Sequence[int]
CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {3: nnf.conv1d, 4: nnf.conv2d, 5: nnf.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    3: nnf.conv_transpose1d,
    4: nnf.conv_transpose2d,
    5: nnf.conv_transpose3d,
}


@operator("Conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes | None = None,
    group: int = 1,
    kernel_shape: Sizes | None = None,
    pads: Sizes | None = None,
    strides: Sizes | None = None,
) -> Tensor:
    n = x.dim() - 2
    before, after = halves(pads, n, auto_pad)
    if before != after:
        x, before = nnf.pad(x, around(before, after)), (0,) * n
    function = by_dimensions(CONVOLUTIONS, x, "Conv")
    return function(x, weight, bias, sizes(strides, n), before, sizes(dilations, n), group)


@operator("ConvTranspose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sizes | None = None,
    group: int = 1,
    kernel_shape: Sizes | None = None,
    output_padding: Sizes | None = None,
    output_shape: Sizes | None = None,
    pads: Sizes | None = None,
    strides: Sizes | None = None,
) -> Tensor:
    n = x.dim() - 2
    before, after = halves(pads, n, auto_pad)
    if before != after or output_shape is not None:
        raise GraphError("ConvTranspose with an output_shape, or padded unevenly, is not supported")
    function = by_dimensions(TRANSPOSED, x, "ConvTranspose")
    more = tuple(output_padding) if output_padding is not None else (0,) * n
    return function(x, weight, bias, sizes(strides, n), before, more, group, sizes(dilations, n))


def sizes(given: Sizes | None, n: int) -> tuple[int, ...]:
    """One an axis; 1 where nothing is said."""
    return tuple(given) if given else (1,) * n


def halves(pads: Sizes | None, n: int, auto_pad: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What is put before, and behind, each axis."""
    if auto_pad not in ("NOTSET", "VALID", ""):
        raise GraphError(f"auto_pad {auto_pad} is not supported: give pads")
    given = tuple(pads) if pads else (0,) * 2 * n
    return given[:n], given[n:]


def around(before: Sizes, after: Sizes) -> list[int]:
    """The same in torch's order, from the last axis on."""
    return [n for both in zip(reversed(before), reversed(after), strict=True) for n in both]


def by_dimensions(functions: dict[int, Callable[..., Tensor]], x: Tensor, name: str) -> Callable[..., Tensor]:
    if x.dim() not in functions:
        raise GraphError(f"{name} of a tensor of shape {list(x.shape)} is not supported")
    return functions[x.dim()]
