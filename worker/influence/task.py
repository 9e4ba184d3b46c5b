"""The seam between what a model is and what influence is: per-sample losses as a function of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as nnf
from torch.nn.attention import SDPBackend, sdpa_kernel

Tensors = dict[str, torch.Tensor]
Loss = Literal["cross_entropy", "bce_with_logits", "mse"]


@dataclass(frozen=True)
class Task:
    """ℓ_z(θ): the loss of one sample as a function of the parameters θ, with buffers frozen.

    The network is put into eval mode: a sample's loss must depend neither on the batch it is computed with
    (batch norm) nor on chance (dropout). Its own parameters are never read; its non-persistent buffers are,
    so it must live on the data's device.
    """

    network: nn.Module
    loss: Loss

    def __post_init__(self) -> None:
        self.network.eval()

    def outputs(self, params: Tensors, buffers: Tensors, inputs: torch.Tensor) -> torch.Tensor:
        """Network outputs [B, …] at `params` for `inputs` [B, …]."""
        with forward_mode_safe():
            outputs: torch.Tensor = functional_call(self.network, {**params, **buffers}, (inputs,))
        return outputs

    def losses_of(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Per-sample losses [B], the mean over a sample's outputs where it has many.

        Args:
            outputs: cross_entropy: logits [B, C, …]; otherwise [B] or [B, …].
            targets: cross_entropy: classes [B, …]; otherwise as many numbers as outputs.
        """
        if self.loss == "cross_entropy":
            losses = nnf.cross_entropy(outputs, targets, reduction="none")
        else:
            function = nnf.mse_loss if self.loss == "mse" else nnf.binary_cross_entropy_with_logits
            losses = function(outputs, targets.reshape(outputs.shape).to(outputs.dtype), reduction="none")
        return losses if losses.dim() == 1 else losses.flatten(1).mean(1)

    def losses(
        self, params: Tensors, buffers: Tensors, inputs: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """ℓ_z(θ) for each sample z of a chunk: [B]."""
        return self.losses_of(self.outputs(params, buffers, inputs), targets)

    def predictions(self, outputs: torch.Tensor) -> torch.Tensor:
        """[B]: the class (int64), whether the logit is positive (int64), or the value predicted (float).

        Where a binary or regression network has many outputs a sample, their mean speaks for them.
        """
        if self.loss == "cross_entropy":
            return outputs.argmax(1) if outputs.dim() == 2 else outputs.flatten(2).mean(2).argmax(1)
        values = outputs if outputs.dim() == 1 else outputs.flatten(1).mean(1)
        return values if self.loss == "mse" else (values > 0).long()


@contextmanager
def forward_mode_safe() -> Iterator[None]:
    """Keeps to kernels that have forward-mode derivatives (torch 2.13).

    Flash attention and the fused path of nn.TransformerEncoderLayer have none.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
