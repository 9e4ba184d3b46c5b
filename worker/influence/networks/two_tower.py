"""`two_tower`: an image and a text encoder whose outputs are compared, as CLIP's are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from worker.influence.networks.cnn import Cnn
from worker.influence.networks.mlp import Mlp
from worker.influence.networks.resnet import Resnet
from worker.influence.networks.transformer import Transformer

TOWERS: dict[str, Callable[..., nn.Module]] = {
    "linear": Mlp,
    "mlp": Mlp,
    "cnn": Cnn,
    "resnet": Resnet,
    "transformer": Transformer,
}


class Matched(NamedTuple):
    """What images and texts are compared by: scale · ⟨image, text⟩."""

    images: Tensor  # [B, embedding_dim], each of length 1
    texts: Tensor  # [B, embedding_dim], each of length 1
    scale: Tensor  # a single number


class TwoTower(nn.Module):
    """Two registered networks without their last linear layer, and a projection of each, without bias.

    The scale is exp(logit_scale), which begins at 1/temperature and is nowhere held down.

    Tensors: `image.*` and `text.*` as the networks name theirs, without their outputs' layer;
    `image_projection.weight`, `text_projection.weight` [embedding_dim, what it had taken]; `logit_scale` [].
    """

    def __init__(
        self,
        image: Mapping[str, Any],
        text: Mapping[str, Any],
        embedding_dim: int = 64,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.image, images = _encoder(**image)
        self.text, texts = _encoder(**text)
        self.image_projection = nn.Linear(images, embedding_dim, bias=False)
        self.text_projection = nn.Linear(texts, embedding_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(-log(temperature)))

    def forward(self, images: Tensor, tokens: Tensor) -> Matched:
        """Images [B, …] and token ids [B, L] of their texts."""
        return Matched(
            _normalised(self.image_projection(self.image(images))),
            _normalised(self.text_projection(self.text(tokens))),
            self.logit_scale.exp(),
        )


def _encoder(name: str, config: Mapping[str, Any]) -> tuple[nn.Module, int]:
    """The network without its last linear layer, and what that layer took."""
    network = TOWERS[name](**config, num_classes=1)
    if isinstance(network, Mlp):  # a `cnn` is one, too
        last = network.layers[-1]
        network.layers[-1] = nn.Identity()
    else:
        head = "fc" if isinstance(network, Resnet) else "head"
        last = getattr(network, head)
        setattr(network, head, nn.Identity())
    width: Any = last.in_features
    return network, width


def _normalised(x: Tensor) -> Tensor:
    """x/‖x‖ [B, d]; 0 stays 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-24)
