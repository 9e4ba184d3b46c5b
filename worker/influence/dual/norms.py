"""Norms, put together from operations that have rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as nnf

from worker.influence.dual.numbers import Dual, Rule, Tensor, only, primal, rule


@rule("batch_norm")
def _batch_norm(
    func: Rule, x: Any, mean: Any, var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """x·s + (bias - mean·s) with s = weight/√(var + ε), in eval mode."""
    only({"training": training}, training=False)
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else weight * scale
    shift = -(mean * scale) if bias is None else bias - mean * scale
    shape = (-1,) + (1,) * (x.dim() - 2)
    return torch.addcmul(shift.reshape(shape), x, scale.reshape(shape))


@rule("group_norm")
def _group_norm(
    func: Rule, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    y = _standardised(x.reshape(x.shape[0], groups, -1), (-1,), eps).reshape(x.shape)
    shape = (-1,) + (1,) * (x.dim() - 2)
    if weight is None:
        return y
    weight = weight.reshape(shape)
    return y * weight if bias is None else torch.addcmul(bias.reshape(shape), y, weight)


@rule("layer_norm")
def _layer_norm(
    func: Rule, x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    y = _standardised(x, tuple(range(-len(shape), 0)), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@rule("rms_norm")
def _rms_norm(func: Rule, x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    least = torch.finfo(x.dtype).eps if eps is None else eps
    y = x * torch.rsqrt(x.square().mean(tuple(range(-len(shape), 0)), keepdim=True) + least)
    return y if weight is None else y * weight


@rule("instance_norm")
def _instance_norm(
    func: Rule, x: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    if not use_input_stats:
        return nnf.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return nnf.group_norm(x, x.shape[1], weight, bias, eps)


@rule("linalg_vector_norm")
def _vector_norm(func: Rule, x: Dual, ord: float = 2, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A002
    """‖x‖₂, whose derivative is taken as 0 where it is 0."""
    only({"ord": ord}, ord=2)
    y = torch.linalg.vector_norm(x.value, dim=dim, keepdim=True)
    along = x.value / torch.where(primal(y) == 0, 1.0, y)
    change = (along * x.tangent).sum(dim, keepdim=True)
    if keepdim:
        return Dual(y, change, x.level)
    wanted = torch.linalg.vector_norm(primal(x), dim=dim).shape
    return Dual(y.reshape(wanted), change.reshape(wanted), x.level)


@rule("norm")
def _norm(func: Rule, x: Dual, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    only({"p": 2 if p == "fro" else p, "dtype": dtype}, p=2)
    return torch.linalg.vector_norm(x, 2, dim, keepdim)


@rule("normalize")
def _normalize(func: Rule, x: Dual, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Any:
    only({"p": p, "out": out}, p=2.0)
    return x / torch.linalg.vector_norm(x, dim=dim, keepdim=True).clamp_min(eps)


@rule("var", "std")
def _variance(
    func: Rule,
    x: Dual,
    dim: Any = None,
    *,
    correction: float = 1,
    unbiased: bool = True,
    keepdim: bool = False,
) -> Any:
    count = primal(x).numel() / primal(x).sum(dim).numel() - correction * unbiased
    found = (x - x.mean(dim, keepdim=True)).square().sum(dim, keepdim=keepdim) / count
    return found if func.__name__ == "var" else found.sqrt()


def _standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)
