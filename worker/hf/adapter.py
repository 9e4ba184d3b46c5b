"""Adapters by peft around a model: what is trained, under the names of its files, and the frozen rest."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from app.catalog.language_models import Lora

WRAPPED = "base_model.model."  # before the names of a model that peft adapts


def adapt(model: Any, lora: Lora, names: Mapping[str, str]) -> tuple[Any, dict[str, str], dict[str, str]]:
    """The model with an adapter, in evaluation mode.

    Args:
        names: of the model's tensors, {in a file: in the model}.

    Returns:
        (the adapted model; the adapter's tensors, {in a file: in the adapted model}; the frozen ones, {in the
        adapted model: in a file}).

    Raises:
        ValueError: no module has such a name, or peft adapts none of its kind.
    """
    with warnings.catch_warnings():  # of what is deprecated in what peft uses of transformers
        warnings.simplefilter("ignore")
        adapted: Any = get_peft_model(model, LoraConfig(**lora.model_dump(), lora_dropout=0.0))
        inner = {name: name for name in adapted.state_dict()}
        trained = get_peft_model_state_dict(adapted, state_dict=inner, save_embedding_layers=False)
    files = {name: file for file, name in names.items()}
    rest = [name for name, _ in adapted.named_parameters(remove_duplicate=False)]
    frozen = {}
    for name in rest:
        plain = name.removeprefix(WRAPPED).replace(".base_layer.", ".").replace(".original_module.", ".")
        if name not in trained.values() and plain in files:
            frozen[name] = files[plain]
    return adapted.eval(), trained, frozen


def fill(model: nn.Module, frozen: Mapping[str, str], base: Path, device: torch.device) -> None:
    """Gives the frozen tensors of an adapted model {in it: in a file} their values from the file `base`."""
    values = load_file(base, device=str(device))
    ready: dict[str, nn.Parameter] = {}  # tied tensors stay one
    tied = {parameter: name for name, parameter in model.named_parameters()}
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if name not in frozen:
            continue
        first = tied[parameter]
        if first not in ready:
            file = next(frozen[one] for one in (first, name) if frozen.get(one) in values)
            ready[first] = nn.Parameter(values[file].float(), requires_grad=False)
        path, _, last = name.rpartition(".")
        model.get_submodule(path)._parameters[last] = ready[first]
