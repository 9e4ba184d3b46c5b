"""From a model type and a config to a network. The only file that imports transformers.

The config was held against the catalog, which lets no path, no code and no quantisation through.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.initialization import no_init_weights

from app.catalog.configs import MAX_PARAMETERS
from app.catalog.language_models import FAMILIES, HfConfig
from worker.hf.masks import Masks
from worker.hf.network import LanguageModel
from worker.hf.norms import spell_out

META = torch.device("meta")
SAVED_AS = {("gpt_neox", "lm_head.weight"): "embed_out.weight"}  # by save_pretrained, not by state_dict
MOST_BUFFER_BYTES = 1 << 30  # of what a model holds beside its tensors, such as causal masks

logging.getLogger("transformers").setLevel(
    logging.ERROR
)  # what it has to say of a stranger's config is no news for the worker's log


class BuildError(ValueError):
    """The config tells of no network; the message says why."""


def build(
    model_type: str,
    config: Mapping[str, Any],
    task: str,
    device: torch.device = META,
    *,
    initial: bool = False,
    base: Path | None = None,
) -> LanguageModel:
    """The network in evaluation mode, without dropout, in float32; on `device` is what no checkpoint holds.

    Args:
        model_type: one of `app.catalog.language_models.FAMILIES`.
        config: of the catalog's form for it.
        initial: whether the tensors have the values that transformers draws at first; else they have none.
        base: the canonical tensors of the model that the config's `lora` adapts. They stay with the model,
            on `device`, and are none of the network's own; None: they have no values either.
        task: "causal_lm" for a model that tells the next token, else a classifier of sequences.

    Raises:
        BuildError: transformers refuses the config, or the network would be too large.
    """
    family = FAMILIES[model_type]
    checked = family.config.model_validate(config)
    with _refused(model_type):
        model = _model(model_type, checked, task, META)
        _check_size(model)
        if device != META:
            model = _model(model_type, checked, task, torch.device("cpu"), initial=initial)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = -1  # no token's id: a classifier looks at the last one
    if not initial:
        _only_buffers(model, device)
    spell_out(model)
    held = list(model.state_dict())
    names = {SAVED_AS.get((model_type, name), name): name for name in held} | {name: name for name in held}
    if checked.lora is not None:
        from worker.hf.adapter import adapt, fill  # peft takes seconds to load

        with _refused(model_type):
            model, names, below = adapt(model, checked.lora, names)
        if base is not None:
            fill(model, below, base, device)
    masks = Masks(family.causal, getattr(model.config, "sliding_window", None), family.mask_by_layer)
    network = LanguageModel(model, names, masks, checked.pad_token_id, positions=family.causal).eval()
    return network.to(device) if initial else network


def _model(
    model_type: str, checked: HfConfig, task: str, device: torch.device, *, initial: bool = False
) -> Any:
    """The model of transformers; unless `initial`, values are left as memory happens to be."""
    config = AutoConfig.for_model(model_type, **checked.of_transformers())
    config.use_cache, config.return_dict = False, True
    kind: Any = AutoModelForCausalLM if task == "causal_lm" else AutoModelForSequenceClassification
    with device, nullcontext() if initial else no_init_weights():
        model = kind.from_config(config, attn_implementation="eager", dtype=torch.float32)
    model.tie_weights()
    return model.eval()


@contextmanager
def _refused(model_type: str) -> Iterator[None]:
    """Whatever goes wrong with a stranger's config in transformers is the config's fault."""
    try:
        yield
    except BuildError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise BuildError(
            f"transformers builds no {model_type} from this config ({type(error).__name__}: {why})."
        ) from error


def _check_size(model: nn.Module) -> None:
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MAX_PARAMETERS:
        raise BuildError(f"The network has {count:,} parameters; {MAX_PARAMETERS:,} at most.")
    held = sum(buffer.nbytes for buffer in model.buffers())
    if held > MOST_BUFFER_BYTES:
        raise BuildError(
            f"The network holds {held:,} bytes beside its parameters; {MOST_BUFFER_BYTES:,} at most: lower "
            "its number of positions."
        )


def _only_buffers(model: nn.Module, device: torch.device) -> None:
    """Moves the buffers to `device` and lets go of the parameters' memory; those that are tied stay so."""
    bare: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                meta = nn.Parameter(parameter.detach().to(META), requires_grad=False)
                module._parameters[name] = bare.setdefault(parameter, meta)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
