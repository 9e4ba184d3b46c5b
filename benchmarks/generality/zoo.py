"""Networks as people write them, in plain PyTorch: none of them knows of this project."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf


class Lenet(nn.Module):
    """LeCun et al. 1998, with ReLU and max-pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nnf.max_pool2d(nnf.relu(self.conv1(x)), 2)
        x = nnf.max_pool2d(nnf.relu(self.conv2(x)), 2)
        x = x.view(x.size(0), -1)
        y: Tensor = self.fc3(nnf.relu(self.fc2(nnf.relu(self.fc1(x)))))
        return y


class Residual(nn.Module):
    """A basic block (He et al. 2015)."""

    def __init__(self, planes: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(planes, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = (
            nn.Sequential(nn.Conv2d(planes, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if stride > 1 or planes != width
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.downsample(x)
        out: Tensor = self.relu(y)
        return out


class Resnet18(nn.Module):
    """Named as torchvision's, of `width` channels in its first stage."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        planes = width
        for i in range(4):
            stage = nn.Sequential(
                Residual(planes, width << i, 1 if i == 0 else 2), Residual(width << i, width << i, 1)
            )
            setattr(self, f"layer{i + 1}", stage)
            planes = width << i
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(planes, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        y: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return y


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = nnf.relu(self.fc1(nnf.adaptive_avg_pool2d(x, 1)))
        return x * (nnf.relu6(self.fc2(scale) + 3) / 6)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation, projection (Howard et al. 2019)."""

    def __init__(self, planes: int, width: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        hidden = 4 * planes
        self.body = nn.Sequential(
            nn.Conv2d(planes, hidden, 1, bias=False), nn.BatchNorm2d(hidden), act(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), act(),
            SqueezeExcite(hidden), nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.shortcut = stride == 1 and planes == width

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y


class Mobilenet(nn.Module):
    """As MobileNetV2 (ReLU6) at first and MobileNetV3 (hard swish) after that."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(),
            InvertedResidual(16, 16, 1, nn.ReLU6), InvertedResidual(16, 24, 2, nn.Hardswish),
            InvertedResidual(24, 24, 1, nn.Hardswish),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(24, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(self.features(x).mean([2, 3]))
        return y


class LayerNorm2d(nn.LayerNorm):
    """Over the channels of [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.permute(0, 2, 3, 1))
        back: Tensor = y.permute(0, 3, 1, 2)
        return back


class ConvnextBlock(nn.Module):
    """Liu et al. 2022."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(0.5 * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(nnf.gelu(self.pwconv1(y)))
        out: Tensor = x + y.permute(0, 3, 1, 2)
        return out


class Convnext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 4, 4), LayerNorm2d(24))
        self.stages = nn.Sequential(
            ConvnextBlock(24), ConvnextBlock(24), LayerNorm2d(24), nn.Conv2d(24, 48, 2, 2), ConvnextBlock(48)
        )
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.stages(self.stem(x)).mean((-2, -1))))
        return y


class Unet(nn.Module):
    """A class a pixel: one way up by a transposed convolution, one by interpolation."""

    def __init__(self) -> None:
        super().__init__()

        def double(planes: int, width: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(planes, width, 3, padding=1), nn.GroupNorm(4, width), nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.SiLU(),
            )  # fmt: skip

        self.down1, self.down2, self.middle = double(1, 8), double(8, 16), double(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, stride=2), nn.Upsample(scale_factor=2)
        self.dec2, self.dec1 = double(32, 16), double(24, 8)
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(nnf.max_pool2d(a, 2))
        y = self.middle(nnf.max_pool2d(b, 2))
        y = self.dec2(torch.cat([self.up2(y), b], 1))
        y = self.dec1(torch.cat([self.up1(y), a], 1))
        out: Tensor = self.out(y)
        return out


class EncoderBlock(nn.Module):
    """nn.MultiheadAttention and a feed-forward part, norms first."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Vit(nn.Module):
    """Dosovitskiy et al. 2020."""

    def __init__(self, dim: int = 48) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, dim, 8, 8)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, 17, dim))
        self.layers = nn.Sequential(EncoderBlock(dim, 4), EncoderBlock(dim, 4))
        self.ln, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1) + self.pos_embedding
        y: Tensor = self.head(self.ln(self.layers(tokens))[:, 0])
        return y


class TextClassifier(nn.Module):
    """nn.TransformerEncoder over token ids, padding by id 0."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(200, 32, padding_idx=0), nn.Embedding(24, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = tokens != 0
        x = self.embedding(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.encoder(x, src_key_padding_mask=~seen)
        weight = seen.unsqueeze(-1).to(x.dtype)
        y: Tensor = self.head((x * weight).sum(1) / weight.sum(1).clamp(min=1))
        return y


class CausalBlock(nn.Module):
    """As nanoGPT's: one projection for queries, keys and values, causal attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.c_attn, self.c_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, dim // self.heads).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x)).split(dim, dim=2)
        )
        y = nnf.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(batch, length, dim))
        out: Tensor = x + self.down(nnf.gelu(self.up(self.ln_2(x)), approximate="tanh"))
        return out


class Gpt(nn.Module):
    """Logits of the next token at each place, [B, vocabulary, L]; the head's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(128, 32), nn.Embedding(24, 32)
        self.h = nn.ModuleList(CausalBlock(32, 4) for _ in range(2))
        self.ln_f, self.lm_head = nn.LayerNorm(32), nn.Linear(32, 128, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits.transpose(1, 2)


class TwoTower(nn.Module):
    """Images and captions to unit vectors, and the scale of their products (Radford et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 16),
        )  # fmt: skip
        self.tokens, self.text = nn.Embedding(100, 32), EncoderBlock(32, 4)
        self.projection = nn.Linear(32, 16, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = nnf.normalize(self.image(images), dim=-1)
        second = nnf.normalize(self.projection(self.text(self.tokens(tokens)).mean(1)), dim=-1)
        return first, second, self.logit_scale.exp()


class Mlp(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 10)
        )


class Example(NamedTuple):
    """A network, what goes into it for a batch of n, and how many classes come out (a pixel, or a token)."""

    network: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Tensor, ...]]
    classes: int = 10
    positions: tuple[int, ...] = ()

    def targets(self, n: int) -> Tensor:
        return torch.randint(0, self.classes, (n, *self.positions))


def images(*shape: int) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda n: (torch.randn(n, *shape),)


def ids(n: int, length: int, most: int) -> Tensor:
    """Token ids, a few of them padding at the end."""
    found = torch.randint(1, most, (n, length))
    return found.masked_fill(torch.arange(length) >= torch.randint(length // 2, length + 1, (n, 1)), 0)


ZOO: dict[str, Example] = {
    "mlp": Example(Mlp, images(1, 8, 8)),
    "lenet": Example(Lenet, images(1, 28, 28)),
    "resnet18": Example(Resnet18, images(3, 32, 32)),
    "mobilenet": Example(Mobilenet, images(3, 32, 32)),
    "convnext": Example(Convnext, images(3, 32, 32)),
    "unet": Example(Unet, images(1, 16, 16), 4, (16, 16)),
    "vit": Example(Vit, images(3, 32, 32)),
    "text": Example(TextClassifier, lambda n: (ids(n, 24, 200),), 4),
    "gpt": Example(Gpt, lambda n: (torch.randint(0, 128, (n, 24)),), 128, (24,)),
    "two_tower": Example(TwoTower, lambda n: (torch.randn(n, 3, 16, 16), torch.randint(0, 100, (n, 8)))),
}
