"""`resnet`: residual networks with the stem of small images (He et al. 2015, arXiv 1512.03385, 4.2)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from worker.influence.networks.activations import ACTIVATIONS
from worker.influence.networks.norms import norm_layer

DEPTHS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class Resnet(nn.Module):
    """A 3 x 3 stem of stride 1 without pooling, four stages, average over all positions, one linear layer.

    Tensors are named as torchvision's: `conv1`, `bn1` (whatever the norm), `layer{1-4}.{i}.conv{j}|bn{j}`,
    `layer{1-4}.{i}.downsample.0|1`, `fc`. Depths 10, 18 and 34 have basic blocks, 50 bottlenecks.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        depth: int = 18,
        width: int = 64,
        norm: str = "batch",
        groups: int = 8,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        block, expansion = (Bottleneck, 4) if depth >= 50 else (BasicBlock, 1)

        def normalise(channels: int) -> nn.Module:
            return norm_layer(norm, channels, groups)

        def stage(planes: int, width: int, repeats: int, stride: int) -> nn.Sequential:
            first = block(planes, width, stride, normalise, self.activation)
            others = [
                block(width * expansion, width, 1, normalise, self.activation) for _ in range(repeats - 1)
            ]
            return nn.Sequential(first, *others)

        widths, repeats = [width << i for i in range(4)], DEPTHS[depth]
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = normalise(width)
        self.layer1 = stage(width, widths[0], repeats[0], 1)
        self.layer2 = stage(widths[0] * expansion, widths[1], repeats[1], 2)
        self.layer3 = stage(widths[1] * expansion, widths[2], repeats[2], 2)
        self.layer4 = stage(widths[2] * expansion, widths[3], repeats[3], 2)
        self.fc = nn.Linear(widths[3] * expansion, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] → [B, num_classes]."""
        x = self.activation(self.bn1(self.conv1(x)))  # [B, width, H, W]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        output: Tensor = self.fc(x.mean((2, 3)))
        return output


Normalise = Callable[[int], nn.Module]
Activation = Callable[[Tensor], Tensor]


def _shortcut(planes: int, out: int, stride: int, normalise: Normalise) -> nn.Sequential | None:
    if stride == 1 and planes == out:
        return None
    return nn.Sequential(nn.Conv2d(planes, out, 1, stride, bias=False), normalise(out))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and the shortcut."""

    def __init__(
        self, planes: int, width: int, stride: int, normalise: Normalise, activation: Activation
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(planes, width, 3, stride, 1, bias=False), normalise(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), normalise(width)
        self.downsample = _shortcut(planes, width, stride, normalise)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.activation(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride) and 1 x 1 convolutions to four times the width, and the shortcut."""

    def __init__(
        self, planes: int, width: int, stride: int, normalise: Normalise, activation: Activation
    ) -> None:
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(planes, width, 1, bias=False), normalise(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), normalise(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), normalise(out)
        self.downsample = _shortcut(planes, out, stride, normalise)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.bn1(self.conv1(x)))
        y = self.activation(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.activation(y + (x if self.downsample is None else self.downsample(x)))
