"""From a model type and a config to a network. The only file that imports transformers.

The config was held against the catalog, which lets no path, no code and no quantisation through.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
MOST_BUFFER_BYTES = 1 << 30  # of what a model holds beside its tensors, such as causal masks

logging.getLogger("transformers").setLevel(
    logging.ERROR
)  # what it has to say of a stranger's config is no news for the worker's log


class BuildError(ValueError):
    """The config tells of no network; the message says why."""


def build(
    model_type: str, config: Mapping[str, Any], task: str, device: torch.device = META
) -> LanguageModel:
    """The network in evaluation mode, without dropout, in float32; on `device` is what no checkpoint holds.

    Args:
        model_type: one of `app.catalog.language_models.FAMILIES`.
        config: of the catalog's form for it.
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
            model = _model(model_type, checked, task, torch.device("cpu"))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = -1  # no token's id: a classifier looks at the last one
    _only_buffers(model, device)
    spell_out(model)
    masks = Masks(family.causal, getattr(model.config, "sliding_window", None), family.mask_by_layer)
    return LanguageModel(model, _names(model), masks, checked.pad_token_id, positions=family.causal).eval()


def _model(model_type: str, checked: HfConfig, task: str, device: torch.device) -> Any:
    """The model of transformers; its parameters' values are left as memory happens to be."""
    config = AutoConfig.for_model(model_type, **checked.of_transformers())
    config.use_cache, config.return_dict = False, True
    kind: Any = AutoModelForCausalLM if task == "causal_lm" else AutoModelForSequenceClassification
    with device, no_init_weights():
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


def _names(model: nn.Module) -> dict[str, str]:
    """Of parameters and persistent buffers, those that are tied once: as `save_pretrained` names them."""
    parameters = [name for name, _ in model.named_parameters()]
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}.difference(parameters)
    return {name: name for name in model.state_dict() if name not in tied}
