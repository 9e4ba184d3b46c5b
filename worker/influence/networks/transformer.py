"""`transformer`: a transformer encoder over token ids, with attention and layer norm spelt out.

PyTorch's fused attention and its encoder's fast path have no forward-mode derivative, and the nested forward
mode of its `layer_norm` is silently wrong (torch 2.13). So
attention is written as softmax(QKᵀ/√d)V and layer norm by its formula; tensors keep the names of
`torch.nn.TransformerEncoder`, and the values agree with it.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from worker.influence.networks.activations import ACTIVATIONS


class Transformer(nn.Module):
    """Token and position embeddings, encoder layers, mean over the tokens that are no padding, one linear
    layer.

    Tensors: `embedding.weight` [vocab_size, d_model], `position.weight` [max_length, d_model],
    `encoder.layers.{i}.*` as `torch.nn.TransformerEncoder`'s, `encoder.norm.weight|bias` with `norm_first`,
    `head.weight|bias`. Without dropout. A sample of padding only has the mean 0.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        num_classes: int,
        d_model: int = 128,
        num_heads: int = 4,
        num_layers: int = 2,
        dim_feedforward: int = 512,
        activation: str = "gelu",
        pad_id: int | None = 0,
        norm_first: bool = False,
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.position = nn.Embedding(max_length, d_model)
        self.encoder = Encoder(d_model, num_heads, num_layers, dim_feedforward, activation, norm_first)
        self.head = nn.Linear(d_model, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L] token ids → [B, num_classes]."""
        seen = torch.ones_like(tokens) if self.pad_id is None else tokens != self.pad_id  # [B, L]
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]  # [B, L, d_model]
        x = self.encoder(x, seen.bool())
        weight = seen.to(x.dtype)
        mean = (x * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)  # [B, d_model]
        output: Tensor = self.head(mean)
        return output


class Encoder(nn.Module):
    """`torch.nn.TransformerEncoder` by its tensors; a final norm where the layers norm first."""

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_layers: int,
        dim_feedforward: int,
        activation: str,
        norm_first: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, num_heads, dim_feedforward, activation, norm_first)
            for _ in range(num_layers)
        )
        self.norm = LayerNorm(d_model) if norm_first else None

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x [B, L, d_model], seen [B, L] bool → [B, L, d_model]."""
        for layer in self.layers:
            x = layer(x, seen)
        return x if self.norm is None else self.norm(x)


class EncoderLayer(nn.Module):
    """`torch.nn.TransformerEncoderLayer` by its tensors: attention and feed-forward, shortcuts and norms."""

    def __init__(
        self, d_model: int, num_heads: int, dim_feedforward: int, activation: str, norm_first: bool
    ) -> None:
        super().__init__()
        self.self_attn = Attention(d_model, num_heads)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.norm1, self.norm2 = LayerNorm(d_model), LayerNorm(d_model)
        self.activation = ACTIVATIONS[activation]
        self.norm_first = norm_first

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x [B, L, d_model], seen [B, L] bool → [B, L, d_model]."""
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x), seen)
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(x + self.self_attn(x, seen))
        y: Tensor = self.norm2(x + self._feed_forward(x))
        return y

    def _feed_forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.activation(self.linear1(x)))
        return y


class Attention(nn.Module):
    """`torch.nn.MultiheadAttention` by its tensors: softmax(QKᵀ/√d_head)V over the tokens seen."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x [B, L, d_model], seen [B, L] bool → [B, L, d_model]."""
        batch, length, d_model = x.shape
        projected = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        # contiguous once: each is a factor of up to three products, all of which would copy it
        apart = projected.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        q, k, v = apart  # [B, heads, L, d_head]
        attention = q @ k.transpose(-2, -1) / sqrt(q.shape[-1])  # [B, heads, L, L]
        # the least finite number, not −∞: a sample of padding only would turn into NaN
        least = torch.finfo(attention.dtype).min
        attention = attention.masked_fill(~seen[:, None, None, :], least).softmax(-1)
        mixed = (attention @ v).transpose(1, 2).reshape(batch, length, d_model)
        y: Tensor = self.out_proj(mixed)
        return y


class LayerNorm(nn.Module):
    """(x − mean) / √(var + ε) · weight + bias over the last axis; `torch.nn.LayerNorm` by its tensors."""

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[…, d_model] → […, d_model]."""
        centred = x - x.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        return centred * scale * self.weight + self.bias
