"""`cnn`: stages of convolution, norm, activation and pooling, then a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from worker.influence.networks.mlp import Mlp
from worker.influence.networks.norms import norm_layer


class Cnn(Mlp):
    """Each stage keeps the size in its convolution and halves it in its pooling, rounding down.

    The head is an `mlp`. With `image_size` it sees the last stage flattened, [channels · height · width];
    without, the average over all positions, and images of any size are taken.

    Tensors: `convs.{i}.weight` [out, in, k, k], `convs.{i}.bias`; with a norm `norms.{i}.weight|bias` and,
    for batch, the buffers `norms.{i}.running_mean|running_var`; the head's `layers.{i}.weight|bias`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (16, 32),
        kernel_size: int = 3,
        activation: str = "gelu",
        pool: str = "max",
        norm: str = "none",
        groups: int = 8,
        image_size: Sequence[int] | None = None,
        hidden: Sequence[int] = (),
    ) -> None:
        stages = list(pairwise([in_channels, *channels]))
        cells = prod(n >> len(stages) for n in image_size) if image_size else 1
        super().__init__(channels[-1] * cells, num_classes, hidden, activation)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, kernel_size, padding=kernel_size // 2) for a, b in stages)
        self.norms = nn.ModuleList(norm_layer(norm, b, groups) for _, b in stages)
        self.pool = nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)
        self.averages = image_size is None

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] → [B, num_classes]."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.pool(self.activation(norm(conv(x))))  # [B, channels, H, W], halved
        return super().forward(x.mean((2, 3)) if self.averages else x)
