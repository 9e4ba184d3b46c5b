"""The activations a network's config may name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,  # the exact one (erf), not its tanh approximation
    "relu": torch.relu,
    "tanh": torch.tanh,
}
