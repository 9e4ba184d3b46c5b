"""What torch's exporter writes for the pieces that networks are made of, against the pieces themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from benchmarks.generality.exporting import through_graph

pytestmark = pytest.mark.slow


class Activations(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            nnf.relu6(x), nnf.leaky_relu(x), nnf.elu(x), nnf.selu(x), nnf.celu(x), nnf.gelu(x),
            nnf.gelu(x, approximate="tanh"), nnf.silu(x), nnf.mish(x), nnf.hardswish(x), nnf.hardsigmoid(x),
            nnf.hardtanh(x), nnf.softplus(x), nnf.softsign(x), nnf.logsigmoid(x), nnf.tanhshrink(x),
            nnf.softshrink(x), nnf.hardshrink(x), nnf.softmax(x, 1), nnf.log_softmax(x, -1), nnf.glu(x, 1),
            nnf.threshold(x, 0.1, 0.2), nnf.prelu(x, torch.full((4,), 0.2)), torch.erf(x),
        )  # fmt: skip


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([
            nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.BatchNorm2d(4),
            nn.LayerNorm([8, 8]), nn.LayerNorm(8, bias=False), nn.RMSNorm(8),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (*(layer(x) for layer in self.layers), nnf.normalize(x, dim=1), nnf.local_response_norm(x, 3))


class Pools(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            nnf.max_pool2d(x, 3, 2, 1), nnf.avg_pool2d(x, 2), nnf.max_pool2d(x, 2, ceil_mode=True),
            nnf.avg_pool2d(x, 3, 2, 1, count_include_pad=False), nnf.adaptive_avg_pool2d(x, (2, 4)),
            nnf.adaptive_max_pool2d(x, 1), nnf.max_pool1d(x[:, :, 0], 2), nnf.avg_pool1d(x[:, :, 0], 2),
            x.amax((2, 3)), nnf.max_pool2d(nnf.pad(x, (0, 1, 0, 1)), 2),
        )  # fmt: skip


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.planes = nn.ModuleList([
            nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.Conv2d(4, 8, 3, groups=2),
            nn.Conv2d(4, 4, (4, 3), padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1),
            nn.ConvTranspose2d(4, 4, 2, 2, groups=2, bias=False),
        ])  # fmt: skip
        self.line, self.volume = nn.Conv1d(4, 3, 3, padding=1), nn.Conv3d(4, 2, (1, 3, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            *(layer(x) for layer in self.planes), self.line(x[:, :, 0]), self.volume(x[:, :, None]),
            nnf.interpolate(x, scale_factor=2), nnf.interpolate(x, size=(12, 6)),
            nnf.interpolate(x, scale_factor=2, mode="bilinear"),
            nnf.interpolate(x, scale_factor=2, mode="bicubic"),
            nnf.interpolate(x, size=(5, 7), mode="bilinear", align_corners=True),
            nnf.interpolate(x, size=(3, 3), mode="bilinear", antialias=True),
            nnf.pixel_shuffle(x, 2), nnf.pixel_unshuffle(x, 2), nnf.unfold(x, 3),
        )  # fmt: skip


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.heads = nn.Linear(8, 24), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        seen = torch.ones(6, 6, dtype=torch.bool).tril()
        added = torch.zeros(6, 6).masked_fill(~seen, float("-inf"))
        attend = nnf.scaled_dot_product_attention
        return (
            attend(q, k, v), attend(q, k, v, attn_mask=seen), attend(q, k, v, attn_mask=added),
            attend(q, k, v, is_causal=True, scale=0.3), self.heads(x, x, x, attn_mask=~seen)[0],
        )  # fmt: skip


class Gated(nn.Module):
    """Rotary positions, SwiGLU, RMS norm as language models write it."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 16)
        self.scale, self.frequencies = nn.Parameter(torch.rand(8)), nn.Buffer(torch.rand(4))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        angles = torch.outer(torch.arange(x.shape[1], device=x.device).float(), self.frequencies)
        a, b = x[..., :4], x[..., 4:]
        turned = torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        return turned, self.w2(nnf.silu(self.w1(x)) * self.w3(x)), normed


class Entries(nn.Module):
    """What moves, cuts, joins, picks and reduces."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            torch.einsum("bld,bmd->blm", x, x), nnf.pad(x, (1, 2), value=0.5),
            nnf.pad(x, (1, 1), mode="reflect"),
            x.clamp(-0.5, 0.5), torch.where(x > 0, x, x * 2), x.cumsum(1), x.flip(1), x.roll(1, 1), x.std(-1),
            x.var(1), x.norm(dim=-1), x.logsumexp(-1), x.max(-1)[0], x.topk(2, -1)[0], x[:, -1], x[:, 1:4],
            x[:, :, None].expand(-1, -1, 2, -1), x.repeat(1, 2, 1), x.repeat_interleave(2, 1), x.unbind(1)[2],
            torch.split(x, [2, 4], 1)[1], torch.stack([x, x], 1), x.tril(), x.masked_fill(x > 1, 0.0),
            x.index_select(1, torch.tensor([0, 2])), x[:, [0, 3]], x.view(x.shape[0], -1), x @ x.mT,
            x.movedim(1, 2), x.squeeze(1), x.diagonal(dim1=1, dim2=2), x.unfold(1, 3, 1), x.fmod(2.0),
            torch.baddbmm(x @ x.mT, x, x.transpose(1, 2)), torch.lerp(x, x * 2, 0.3), x.abs() ** 0.5,
        )  # fmt: skip


class Text(nn.Module):
    """Token ids: padding by mask, positions that are counted, a decoder that sees an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(10, 8, padding_idx=0), nn.Embedding(10, 8)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.mask = nn.Buffer(torch.full((6, 6), float("-inf")).triu(1))

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        seen = tokens != 0
        x = self.embedding(tokens) + self.position(seen.cumsum(1) * seen)
        pooled = (x * seen[..., None]).sum(1) / seen.sum(1, keepdim=True).clamp(min=1)
        highest = x.masked_fill(~seen[..., None], -1e9).max(1)[0]
        found = self.encoder(x, src_key_padding_mask=~seen)
        read = self.decoder(x, found, tgt_mask=self.mask, memory_key_padding_mask=~seen)
        return pooled, highest, read, x[torch.arange(x.shape[0]), tokens.argmax(1).clamp(max=5)]


def images(n: int) -> Tensor:
    return torch.randn(n, 4, 8, 8)


def sequences(n: int) -> Tensor:
    return torch.randn(n, 6, 8)


def tokens(n: int) -> Tensor:
    return torch.randint(0, 10, (n, 6)).index_fill(1, torch.tensor(0), 3)


PIECES: list[tuple[type[nn.Module], Callable[[int], Tensor]]] = [
    (Activations, images), (Norms, images), (Pools, images), (Convolutions, images), (Attention, sequences),
    (Gated, sequences), (Entries, sequences), (Text, tokens),
]  # fmt: skip


@pytest.mark.parametrize(("piece", "draw"), PIECES, ids=[piece.__name__ for piece, _ in PIECES])
def test_a_piece_is_what_it_was(
    piece: type[nn.Module], draw: Callable[[int], Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = piece().eval()
    graph = through_graph(network, (draw(3),), tmp_path)
    x = draw(5)
    with torch.no_grad():
        for number, (theirs, ours) in enumerate(zip(network(x), graph(x), strict=True)):
            assert ours.shape == theirs.shape, number
            assert torch.allclose(ours.float(), theirs.float(), atol=1e-5), number
