"""Attention as one operator, as opset 23 has it; spelled out: fused kernels have no forward mode."""

from __future__ import annotations

from math import sqrt

import torch

from worker.influence.networks.graph.registry import GraphError, Tensor, operator


@operator("Attention")
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    q_num_heads: int | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> Tensor:
    """softmax(scale · QKᵀ + mask) V of q [B, heads, L, d], k and v [B, kv heads, S, d]; each may also come
    as [B, L, heads · d]. Where there are fewer heads of keys, neighbouring heads of queries share one.
    """
    if past_key is not None or past_value is not None:
        raise GraphError("Attention with keys and values of the past is not supported")
    flat = q.dim() == 3
    q, k, v = _apart(q, q_num_heads), _apart(k, kv_num_heads), _apart(v, kv_num_heads)
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    s = (q * (1 / sqrt(q.shape[-1]) if scale is None else scale)) @ k.transpose(-2, -1)
    s = softcap * torch.tanh(s / softcap) if softcap else s
    # the least finite number, not −∞: a query that sees nothing would turn into NaN
    least = torch.finfo(s.dtype).min
    if is_causal:
        seen = torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).tril()
        s = s.masked_fill(~seen, least)
    if mask is not None:
        s = s.masked_fill(~mask, least) if mask.dtype == torch.bool else s + mask
    y = torch.softmax(s, -1) @ v
    return y.transpose(1, 2).flatten(2) if flat else y


def _apart(x: Tensor, heads: int | None) -> Tensor:
    """[B, L, heads · d] → [B, heads, L, d]."""
    if x.dim() == 4:
        return x
    if x.dim() != 3 or not heads:
        raise GraphError(f"Attention of a tensor of shape {list(x.shape)} needs its number of heads")
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
