"""A model of transformers as a network of the engine: token ids in, logits out, tensors by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from worker.hf.masks import Masks
from worker.influence.next_token import tokens_seen


class LanguageModel(nn.Module):
    """[B, L] token ids → logits [B, C] of a classifier, [B, L, V] of a causal language model.

    Its tensors are those that a checkpoint holds, under the names they have there, and take no memory: they
    are given at each call, by `torch.func.functional_call`. Whatever else the model has (rotary frequencies,
    the frozen base below an adapter) it keeps to itself.
    """

    def __init__(
        self, model: nn.Module, tensors: Mapping[str, str], masks: Masks, pad_id: int | None, positions: bool
    ) -> None:
        """
        Args:
            model: one of transformers, or of peft around one.
            tensors: for each name in a checkpoint the name of the tensor in `model`.
            pad_id: of the token that fills up a sample; None: none does.
            positions: whether to say that tokens stand at 0, 1, …; the others find out by themselves.
        """
        super().__init__()
        self._model = (model,)  # in a tuple, so that its tensors are not taken for the network's
        self._names = dict(tensors)
        self.masks, self.pad_id, self.positions = masks, pad_id, positions
        held = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
        for name, inner in tensors.items():
            _place(self, name, held[inner])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As a module's own, which `to` goes by; what the model keeps to itself comes along."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for module in self._model[0].modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = fn(buffer)
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L] → [B, C] or [B, L, V]."""
        given = dict(self.named_parameters(remove_duplicate=False)) | dict(self.named_buffers())
        dtype = next(tensor.dtype for tensor in given.values() if tensor.is_floating_point())
        asked: dict[str, Any] = {
            "input_ids": tokens,
            "attention_mask": self.masks(tokens_seen(tokens, self.pad_id), dtype),
        }
        if self.positions:
            asked["position_ids"] = torch.arange(tokens.shape[1], device=tokens.device)[None]
        tensors = {self._names[name]: tensor for name, tensor in given.items()}
        logits: Tensor = functional_call(self._model[0], tensors, (), asked).logits
        return logits


def _place(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Registers a tensor under a dotted name, in modules that only hold it; straight into their tables, for
    names such as `type` are those of a module's methods."""
    *path, last = name.split(".")
    for part in path:
        root = root._modules.setdefault(part, nn.Module())  # type: ignore[assignment]
    table: Any = root._parameters if isinstance(tensor, nn.Parameter) else root._buffers
    table[last] = tensor
