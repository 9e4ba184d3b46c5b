"""The seam between what a model is and what influence is: per-sample losses as a function of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as nnf
from torch.nn.attention import SDPBackend, sdpa_kernel

from worker.influence import contrastive, next_token

Tensors = dict[str, torch.Tensor]
Loss = Literal["cross_entropy", "bce_with_logits", "mse", "clip", "next_token"]


@dataclass(frozen=True)
class Task:
    """ℓ_z(θ): the loss of one sample as a function of the parameters θ, with buffers frozen.

    The network is put into eval mode: a sample's loss must depend neither on the batch it is computed with
    (batch norm) nor on chance (dropout). Its own parameters are never read; its non-persistent buffers are,
    so it must live on the data's device.

    The one exception is `clip`, whose loss of a pair depends on the pairs of its group. Groups are fixed:
    each `group` samples that follow one another in the data, the last one shorter. The network is then called
    with inputs and targets, and gives (image embeddings [B, d], text embeddings [B, d], scale).
    """

    network: nn.Module
    loss: Loss
    group: int = 1

    def __post_init__(self) -> None:
        if self.group < 1 or (self.group > 1 and not self.in_groups):
            raise ValueError(f"Losses by {self.loss} come in no groups of {self.group}")
        self.network.eval()

    @property
    def in_groups(self) -> bool:
        """Whether a sample's loss depends on the others of its group."""
        return self.loss == "clip"

    @property
    def whole_targets(self) -> bool:
        """Whether targets are classes or tokens (int64), and no quantities."""
        return self.loss in ("cross_entropy", "clip", "next_token")

    def of_batch(self, size: int) -> Task:
        """The task with a batch of `size` samples as one group, as it was in training."""
        return replace(self, group=size) if self.in_groups else self

    def outputs(
        self,
        params: Tensors,
        buffers: Tensors,
        inputs: torch.Tensor,
        targets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Network outputs [B, …] at `params` for `inputs` [B, …]; of clip: `contrastive.logits`.

        Args:
            targets: [B, …]; asked for by clip alone.
        """
        with forward_mode_safe():
            return self.call({**params, **buffers}, inputs, targets)

    def call(
        self, tensors: Tensors, inputs: torch.Tensor, targets: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `outputs`, by whichever kernels torch takes: those of training."""
        if not self.in_groups:
            outputs: torch.Tensor = functional_call(self.network, tensors, (inputs,))
            return outputs
        if targets is None:
            raise ValueError("The network takes inputs and targets together: both are asked for")
        images, texts, scale = functional_call(self.network, tensors, (inputs, targets))
        return contrastive.logits(images, texts, scale, self.group)

    def losses_of(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Per-sample losses [B], the mean over a sample's outputs where it has many.

        Args:
            outputs: cross_entropy: logits [B, C, …]; clip: `contrastive.logits`; next_token: logits
                [B, L, V]; otherwise [B] or [B, …].
            targets: cross_entropy: classes [B, …]; next_token: tokens [B, L]; otherwise as many numbers as
                outputs.
        """
        if self.in_groups:
            return contrastive.losses(outputs)
        if self.loss == "next_token":
            return next_token.losses(outputs, targets)
        if self.loss == "cross_entropy":
            losses = nnf.cross_entropy(outputs, targets, reduction="none")
        else:
            function = nnf.mse_loss if self.loss == "mse" else nnf.binary_cross_entropy_with_logits
            losses = function(outputs, targets.reshape(outputs.shape).to(outputs.dtype), reduction="none")
        return losses if losses.dim() == 1 else losses.flatten(1).mean(1)

    def losses_and_shares(
        self, outputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(losses [B], what each sample adds to the total of all losses [B]): the same but in groups."""
        losses = self.losses_of(outputs, targets)
        return losses, contrastive.shares(outputs) if self.in_groups else losses

    def weighted(self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Σ_z weight_z ℓ_z; a sample of weight 0 is out of its group, too. A single number."""
        if self.in_groups:
            return (contrastive.losses(outputs, weights != 0) * weights).sum()
        return (self.losses_of(outputs, targets) * weights).sum()

    def losses(
        self, params: Tensors, buffers: Tensors, inputs: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """ℓ_z(θ) for each sample z of a chunk that begins where a group does: [B]."""
        full = whole(len(inputs), self.group)
        if full < len(inputs):
            parts = ((inputs[:full], targets[:full]), (inputs[full:], targets[full:]))
            return torch.cat([self.losses(params, buffers, x, y) for x, y in parts])
        return self.losses_of(self.outputs(params, buffers, inputs, targets), targets)

    def predictions(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """[B]: the class (int64), whether the logit is positive (int64), or the value predicted (float); of
        clip, which of its group's texts fits an image best (int64); of next_token, the share of the targets
        that were told right (float).

        Where a binary or regression network has many outputs a sample, their mean speaks for them.
        """
        if self.loss == "next_token":
            return next_token.share_right(outputs, targets)
        if self.loss in ("cross_entropy", "clip"):
            return outputs.argmax(1) if outputs.dim() == 2 else outputs.flatten(2).mean(2).argmax(1)
        values = outputs if outputs.dim() == 1 else outputs.flatten(1).mean(1)
        return values if self.loss == "mse" else (values > 0).long()


def whole(count: int, group: int) -> int:
    """How many of `count` samples, from where a group begins, are whole groups; all where they are one."""
    return count if count < group else count - count % group


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
