"""Attention, spelled out: torch's fused functions take no duals apart."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch.nn import functional as nnf

from worker.influence.dual.numbers import NoRuleError, Rule, Tensor, is_dual, only, primal, rule


@rule("scaled_dot_product_attention")
def _attention(
    func: Rule,
    q: Any,
    k: Any,
    v: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(scale · q kᵀ + mask) v of q [B, …, L, d], k and v [B, …, S, d]; 0 where nothing is seen."""
    only({"dropout_p": dropout_p}, dropout_p=0.0)
    if enable_gqa and q.shape[-3] != k.shape[-3]:
        k, v = (x.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for x in (k, v))
    if is_causal:
        seen = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device)
        attn_mask = seen.tril()
    return _weights(q, k, attn_mask, scale) @ v


def _weights(q: Any, k: Any, mask: Tensor | None, scale: float | None) -> Any:
    """[B, …, L, S]; the mask tells by True what is seen, or is added."""
    s = (q * (1 / sqrt(q.shape[-1]) if scale is None else scale)) @ k.transpose(-2, -1)
    if mask is None:
        return torch.softmax(s, -1)
    if is_dual(mask):
        raise NoRuleError("a mask that moves")
    s = s.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else s + mask
    blind = primal(s).amax(-1, keepdim=True) == float("-inf")
    return torch.softmax(s, -1).masked_fill(blind, 0.0)


@rule("multi_head_attention_forward")
def _multi_head(
    func: Rule,
    query: Any,
    key: Any,
    value: Any,
    width: int,
    heads: int,
    weight: Any,
    bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_weight: Any,
    out_bias: Any,
    *,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    average_attn_weights: bool = True,
    **apart: Any,
) -> tuple[Any, Any]:
    """nn.MultiheadAttention of query [L, B, D], key and value [S, B, D], all projected by one `weight`
    [3 D, D]: (output [L, B, D], weights [B, L, S] or None)."""
    only({"bias_k": bias_k, "bias_v": bias_v})
    only({"add_zero_attn": add_zero_attn, "training": training}, add_zero_attn=False, training=False)
    if any(apart.values()) or query.dim() != 3 or (need_weights and not average_attn_weights):
        raise NoRuleError("attention with parts of its own")
    q, k, v = (_heads(x, heads) for x in _projected(query, key, value, weight, bias))
    mask = _mask(attn_mask, key_padding_mask, len(query), len(key), heads, q.dtype)
    weights = _weights(q, k, mask, None)
    y = (weights @ v).permute(2, 0, 1, 3).flatten(2)  # [L, B, D]
    return nnf.linear(y, out_weight, out_bias), weights.mean(1) if need_weights else None


def _projected(query: Any, key: Any, value: Any, weight: Any, bias: Any) -> Any:
    if query is key and key is value:
        return nnf.linear(query, weight, bias).chunk(3, -1)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    parts = zip((query, key, value), weight.chunk(3), biases, strict=True)
    return [nnf.linear(x, w, b) for x, w, b in parts]


def _heads(x: Any, heads: int) -> Any:
    """[L, B, D] → [B, heads, L, D / heads]."""
    return x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)


def _mask(
    among: Tensor | None, padding: Tensor | None, length: int, keys: int, heads: int, dtype: torch.dtype
) -> Tensor | None:
    """What is added to the products: -∞ where `among` [L, S] or [B · heads, L, S], or `padding` [B, S], is
    True, or as they say in numbers."""
    added = []
    if among is not None:
        shape = (length, keys) if among.dim() == 2 else (-1, heads, length, keys)
        added.append(_numbers(among, dtype).reshape(shape))
    if padding is not None:
        added.append(_numbers(padding, dtype)[:, None, None, :])
    return sum(added[1:], added[0]) if added else None


def _numbers(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))
