"""`linear` and `mlp`: linear layers with an activation between."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from worker.influence.networks.activations import ACTIVATIONS


class Mlp(nn.Module):
    """Flattens its input, then alternates linear layers and the activation; none after the last.

    Tensors: `layers.{i}.weight` [out, in], `layers.{i}.bias` [out]. Without hidden layers it is `linear`.
    """

    def __init__(
        self, in_features: int, num_classes: int, hidden: Sequence[int] = (), activation: str = "gelu"
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden, num_classes]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """[B, …] with in_features values a sample → [B, num_classes]."""
        x = x.flatten(1)
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        output: Tensor = last(x)
        return output
