"""What is linear in its first argument: means, pooling, and all that only moves entries about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as nnf

from worker.influence.dual.numbers import Dual, NoRuleError, Rule, Tensor, is_dual, only, primal, rule


@rule(
    "sum", "mean", "cumsum", "neg", "nll_loss", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "interpolate",
    "clone", "repeat", "tile", "repeat_interleave", "roll", "flip", "tril", "triu", "gather", "index_select",
    "take_along_dim", "pixel_shuffle", "pixel_unshuffle", "unfold",
)  # fmt: skip
def _linear(func: Rule, x: Dual, *args: Any, **kwargs: Any) -> Dual:
    return Dual(func(x.value, *args, **kwargs), func(x.tangent, *args, **kwargs), x.level)


@rule(
    "reshape", "flatten", "unflatten", "permute", "transpose", "swapaxes", "movedim", "unsqueeze", "squeeze",
    "expand", "contiguous", "__getitem__", "narrow", "select", "diagonal", "double", "float",
)  # fmt: skip
def _seen_otherwise(func: Rule, x: Dual, *args: Any, **kwargs: Any) -> Dual:
    """Linear, too, and perhaps the same memory."""
    made = _linear(func, x, *args, **kwargs)
    x.shared = made.shared = True
    return made


@rule("view")
def _view(func: Rule, x: Dual, *shape: Any) -> Dual:
    """Copied where the layout asks for it: images may lie otherwise than the network's author thought."""
    if isinstance(shape[0], torch.dtype):
        raise NoRuleError("view as another type")
    return _seen_otherwise(Tensor.reshape, x, *shape)


@rule("expand_as", "view_as", "reshape_as", "type_as")
def _like(func: Rule, x: Any, other: Tensor) -> Any:
    if not is_dual(x):
        return func(x, primal(other))
    return _seen_otherwise(func, x, primal(other))


@rule("to")
def _to(func: Rule, x: Dual, *args: Any, **kwargs: Any) -> Any:
    """Another type or device; what is no floating type does not move."""
    found = func(primal(x), *args, **kwargs)
    return _seen_otherwise(func, x, *args, **kwargs) if found.is_floating_point() else found


@rule("__get__")
def _property(func: Rule, x: Dual) -> Any:
    """Transposes; the others have no rule."""
    if func not in TRANSPOSES:
        raise NoRuleError("a property")
    return x.transpose(-2, -1)


TRANSPOSES = (Tensor.T.__get__, Tensor.mT.__get__)  # type: ignore[attr-defined]


@rule("unbind", "split", "chunk", "tensor_split")
def _pieces(func: Rule, x: Dual, *args: Any, **kwargs: Any) -> tuple[Dual, ...]:
    values, tangents = func(x.value, *args, **kwargs), func(x.tangent, *args, **kwargs)
    made = tuple(Dual(value, tangent, x.level) for value, tangent in zip(values, tangents, strict=True))
    for part in (x, *made):
        part.shared = True
    return made


@rule("pad")
def _pad(func: Rule, x: Dual, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Dual:
    return Dual(func(x.value, pad, mode, value), func(x.tangent, pad, mode), x.level)


@rule("max_pool2d")
def _max_pool2d(func: Rule, x: Dual, *args: Any, return_indices: bool = False, **kwargs: Any) -> Dual:
    """A window changes as its largest entry does."""
    if return_indices:
        raise NoRuleError("return_indices")
    value, where = nnf.max_pool2d(primal(x), *args, return_indices=True, **kwargs)
    last = where.stride(1) == 1
    at = where.permute(0, 2, 3, 1).flatten(1, 2) if last else where.flatten(2)

    def pick(t: Tensor) -> Tensor:
        if is_dual(t):
            return Dual(pick(t.value), pick(t.tangent), t.level)
        if last:
            rows = t.permute(0, 2, 3, 1).flatten(1, 2).gather(1, at)  # [B, positions, C]
            return rows.view(len(rows), *where.shape[2:], -1).permute(0, 3, 1, 2)
        return t.flatten(2).gather(2, at).view(where.shape)

    return Dual(pick(x.value) if is_dual(x.value) else value, pick(x.tangent), x.level)


@rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
def _dropout(func: Rule, x: Dual, p: float = 0.5, training: bool = True) -> Dual:
    only({"training": training}, training=False)
    return x


@rule(
    "argmax", "argmin", "gt", "ge", "lt", "le", "eq", "ne", "isfinite", "isnan", "isinf", "sign", "floor",
    "ceil", "round", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_tensor", "detach",
)  # fmt: skip
def _constant(func: Rule, *args: Any, **kwargs: Any) -> Any:
    """What has no derivative but 0."""
    return func(*(primal(x) if is_dual(x) else x for x in args), **kwargs)
