"""What transformers would refuse of a config, as far as its numbers tell: said before a file is sent.

What needs transformers itself is told when a checkpoint is validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIZES = {
    "embedding_size", "ffn_dim", "head_dim", "hidden_dim", "intermediate_size", "num_attention_heads",
    "num_heads", "num_key_value_heads", "n_head", "n_heads", "n_inner", "rotary_dim", "sliding_window",
    "type_vocab_size", "window_size", "word_embed_proj_dim",
}  # fmt: skip
NULLABLE = {"head_dim", "intermediate_size", "n_inner", "num_key_value_heads", "rotary_dim", "sliding_window"}
MOST_SIZE = 1_000_000
SHARES = (
    "attention_dropout", "attention_probs_dropout_prob", "attn_pdrop", "classifier_dropout", "dropout",
    "embd_pdrop", "embed_dropout", "hidden_dropout", "hidden_dropout_prob", "resid_pdrop",
)  # fmt: skip
ACTIVATIONS = {"activation", "activation_function", "hidden_act", "hidden_activation"}
KNOWN_ACTIVATIONS = {
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu",
    "relu", "relu2", "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh", "xielu",
}  # fmt: skip
# heads of attention where a config says nothing, in families whose width they must divide
HEADS = {
    "bert": 12, "electra": 4, "albert": 64, "modernbert": 12, "gpt_neox": 64, "llama": 32, "gemma2": 8,
    "gemma3_text": 8, "opt": 12, "stablelm": 32, "roberta": 12, "xlm-roberta": 12, "camembert": 12,
    "mpnet": 12, "phi": 32, "gpt2": 12, "gptj": 16, "gpt_neo": 16, "distilbert": 12,
}  # fmt: skip
STANDARD = "num_attention_heads"
HEAD_NAMES = {"gpt2": "n_head", "gptj": "n_head", "gpt_neo": "num_heads", "distilbert": "n_heads"}
ROTARY = {"gptj": 64}  # rotary_dim where a config says nothing
# groups of heads where a config says nothing, by family; None: as many as heads
GROUPS = {
    "llama": None, "mistral": 8, "qwen2": 32, "qwen3": 32, "gemma": 16, "gemma2": 4, "gemma3_text": 4,
    "phi": None, "phi3": None, "smollm3": 4, "stablelm": 32, "starcoder2": 2,
}  # fmt: skip


def not_buildable(family: str, config: Mapping[str, Any], width: int) -> str | None:
    """What is wrong with this config of the family, in words; None where nothing shows.

    Args:
        config: by transformers' names, those alone that were given.
        width: of the residual stream.
    """
    for name in sorted(SIZES & config.keys()):
        value = config[name]
        if value is None and name in NULLABLE:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_SIZE:
            return f"config.{name} is {_shown(value)}: a whole number from 1 to {MOST_SIZE:,} it must be."
    for name in SHARES:
        value = config.get(name)
        if value is not None and (isinstance(value, bool | str) or not 0 <= value <= 1):
            return f"config.{name} is {_shown(value)}: a share from 0 to 1 it must be."
    for name in sorted(ACTIVATIONS & config.keys()):
        if config[name] is not None and config[name] not in KNOWN_ACTIVATIONS:
            return f"config.{name} is {_shown(config[name])}; known: {', '.join(sorted(KNOWN_ACTIVATIONS))}."
    return _heads(family, config, width)


def _heads(family: str, config: Mapping[str, Any], width: int) -> str | None:
    name = HEAD_NAMES.get(family, STANDARD)
    if name != STANDARD and STANDARD in config:
        if name in config:
            return None  # told twice: which one holds is transformers' business
        name = STANDARD
    heads = config.get(name, HEADS.get(family))
    if heads is None:
        return None
    said = (
        f"config.{name} is {heads}" if name in config else f"{family} has {heads} heads unless {name} tells"
    )
    if family in HEADS and width % heads:
        return f"{said}, which does not divide the width {width}: every head has the same part of it."
    turned = config.get("rotary_dim", ROTARY.get(family))
    if family in ROTARY and turned and turned > width // heads:
        return (
            f"config.rotary_dim is {turned}, more than the {width // heads} that each of {heads} heads has."
        )
    groups = config.get("num_key_value_heads") or GROUPS.get(family)
    if family in GROUPS and groups and heads % groups:
        return (
            f"{said}, which its {groups} groups do not divide (num_key_value_heads): each has the same "
            "number of heads."
        )
    return None


def _shown(value: Any) -> str:
    return repr(value)[:50]
