"""What makes, moves, joins and cuts entries by shapes that are known before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import torch
from torch.nn import functional as nnf

from worker.influence.networks.graph.registry import GraphError, Tensor, TooLargeError, operator, positive

MOST_RANGE = 1 << 24  # entries of a Range: it is made for real, even where only shapes are asked for
PADS = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Identity")
def identity(x: Tensor) -> Tensor:
    return x


@operator("Shape", form=(0,))
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


@operator("Size", form=(0,))
def size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Reshape", host=(1,))
def reshape(x: Tensor, shape: Sequence[int], *, allowzero: int = 0) -> Tensor:
    """A 0 keeps the axis as it is, but with `allowzero`."""
    if not allowzero and 0 in shape:
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    wanted = tuple(shape)
    return x if wanted == x.shape else x.reshape(wanted)


@operator("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


@operator("Transpose")
def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(tuple(perm) if perm is not None else tuple(reversed(range(x.dim()))))


@operator("Squeeze", host=(1,))
def squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Axes that are longer than 1 stay, as torch's exporter means it."""
    taken = range(x.dim()) if axes is None else {positive(axis, x.dim()) for axis in axes}
    return x.reshape([n for i, n in enumerate(x.shape) if n != 1 or i not in taken])


@operator("Unsqueeze", host=(1,))
def unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    dimensions = x.dim() + len(axes)
    for axis in sorted(positive(axis, dimensions) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Expand", host=(1,))
def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Both to the shape they broadcast to."""
    longer = (1,) * (len(shape) - x.dim()) + tuple(x.shape)
    wanted = [m if n == 1 else n for m, n in zip(longer[-len(shape) :] if shape else (), shape, strict=False)]
    wanted = [*longer[: len(longer) - len(shape)], *wanted]
    return x if tuple(wanted) == x.shape else x.expand(wanted)


@operator("Tile", host=(1,))
def tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    return x.repeat(tuple(repeats))


@operator("ConstantOfShape", host=(0,))
def constant_of_shape(shape: Sequence[int], value: Tensor) -> Tensor:
    """One number, seen as many."""
    return value.reshape(()).expand(tuple(shape))


@operator("Range", host=(0, 1, 2))
def range_(start: float, limit: float, step: float, *, floating: torch.dtype) -> Tensor:
    if step and (limit - start) / step > MOST_RANGE:
        raise TooLargeError(f"A Range makes {(limit - start) / step:,.0f} values; {MOST_RANGE:,} at most")
    return torch.arange(start, limit, step, dtype=torch.int64 if isinstance(start, int) else floating)


@operator("EyeLike", form=(0,))
def eye_like(x: Tensor, *, k: int = 0) -> Tensor:
    """1 where the column is the row and k more."""
    return torch.ones(x.shape, dtype=x.dtype).triu(k).tril(k)


@operator("Concat")
def concat(*inputs: Tensor, axis: int) -> Tensor:
    return torch.cat(inputs, axis)


@operator("Split", host=(1,))
def split(
    x: Tensor, sizes: Sequence[int] | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    """Into pieces of these sizes, or into as many alike, the last one smaller."""
    if sizes is None:
        if num_outputs is None:
            raise GraphError("Split needs its sizes or num_outputs")
        return torch.split(x, ceil(x.shape[axis] / num_outputs), axis)
    return torch.split(x, list(sizes), axis)


@operator("SplitToSequence", host=(1,), sequence=True)
def split_to_sequence(
    x: Tensor, sizes: Sequence[int] | int | None = None, *, axis: int = 0, keepdims: int = 1
) -> tuple[Tensor, ...]:
    """One size holds for all pieces; without, every slice by itself."""
    if sizes is None:
        return torch.split(x, 1, axis) if keepdims else torch.unbind(x, axis)
    return torch.split(x, sizes if isinstance(sizes, int) else list(sizes), axis)


@operator("SequenceAt", host=(1,))
def sequence_at(sequence: tuple[Tensor, ...], index: int) -> Tensor:
    return sequence[index]


@operator("SequenceConstruct", sequence=True)
def sequence_construct(*inputs: Tensor) -> tuple[Tensor, ...]:
    return inputs


@operator("ConcatFromSequence")
def concat_from_sequence(sequence: tuple[Tensor, ...], *, axis: int, new_axis: int = 0) -> Tensor:
    return torch.stack(sequence, axis) if new_axis else torch.cat(sequence, axis)


@operator("Slice", host=(1, 2, 3, 4))
def slice_(
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
) -> Tensor:
    cuts = [slice(None)] * x.dim()
    turned = []
    axes = range(len(starts)) if axes is None else axes
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        axis = positive(axis, x.dim())
        taken = range(x.shape[axis])[start:end:step]
        if not taken:
            cuts[axis] = slice(0, 0)
        elif step > 0:
            cuts[axis] = slice(taken[0], taken[-1] + 1, step)
        else:  # cut in the other direction, then turned round
            cuts[axis] = slice(taken[-1], taken[0] + 1, -step)
            turned.append(axis)
    whole = all(cut == slice(None) or cut == slice(0, n, 1) for cut, n in zip(cuts, x.shape, strict=True))
    cut = x if whole else x[tuple(cuts)]
    return torch.flip(cut, turned) if turned else cut


@operator("Pad", host=(1, 2, 3))
def pad(
    x: Tensor,
    pads: Sequence[int],
    value: float | None = None,
    axes: Sequence[int] | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """`pads`: all that is put before, then all that is put behind, the axes."""
    axes = range(x.dim()) if axes is None else [positive(axis, x.dim()) for axis in axes]
    before, behind = pads[: len(axes)], pads[len(axes) :]
    by_axis = dict(zip(axes, zip(before, behind, strict=True), strict=True))
    first = min((axis for axis, both in by_axis.items() if any(both)), default=x.dim())
    if first == x.dim():
        return x
    flat = [n for axis in reversed(range(first, x.dim())) for n in by_axis.get(axis, (0, 0))]
    if mode == "constant":
        return nnf.pad(x, flat, value=value or 0)
    spread = x.reshape(1, -1, *x.shape[first:])  # torch pads the last axes of a batch with channels
    padded = nnf.pad(spread, flat, mode=PADS[mode])
    return padded.reshape(*x.shape[:first], *padded.shape[2:])


@operator("Trilu", host=(1,))
def trilu(x: Tensor, k: int = 0, *, upper: int = 1) -> Tensor:
    k = int(k)
    return torch.triu(x, k) if upper else torch.tril(x, k)


@operator("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "CRD":
        return nnf.pixel_shuffle(x, blocksize)
    batch, channels, height, width = x.shape
    y = x.reshape(batch, blocksize, blocksize, -1, height, width).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(batch, channels // blocksize**2, height * blocksize, width * blocksize)


@operator("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int) -> Tensor:
    batch, channels, height, width = x.shape
    y = x.reshape(batch, channels, height // blocksize, blocksize, width // blocksize, blocksize)
    return y.permute(0, 3, 5, 1, 2, 4).reshape(
        batch, channels * blocksize**2, height // blocksize, width // blocksize
    )
