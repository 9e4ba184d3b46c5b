"""Small language models of every type, as transformers builds and saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

PAD, VOCABULARY = 1, 50
STANDARD: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": PAD,
    "bos_token_id": 0, "eos_token_id": 2, "num_labels": 3,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": VOCABULARY, "pad_token_id": PAD,
    "bos_token_id": 0, "eos_token_id": 2, "num_labels": 3,
}  # fmt: skip
GROUPED: dict[str, Any] = {"num_key_value_heads": 1, "head_dim": 16}
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "vocab_size": VOCABULARY,
                   "max_position_embeddings": 64, "pad_token_id": PAD, "num_labels": 3},
    "albert": STANDARD | {"embedding_size": 16},
    "electra": STANDARD | {"embedding_size": 16},
    "modernbert": STANDARD | {"local_attention": 6},
    "gpt2": GPT2,
    "gptj": GPT2 | {"rotary_dim": 8},
    "gpt_neo": STANDARD | {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]],
                           "window_size": 4},
    "mistral": STANDARD | {"sliding_window": 4},
    "phi3": STANDARD | {"sliding_window": 4},
    "starcoder2": STANDARD | {"sliding_window": 4},
    "qwen2": STANDARD | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": STANDARD | GROUPED,
    "gemma": STANDARD | GROUPED,
    "gemma2": STANDARD | GROUPED | {"sliding_window": 4},
    "gemma3_text": STANDARD | GROUPED | {"sliding_window": 4, "sliding_window_pattern": 2},
    "opt": STANDARD | {"ffn_dim": 64, "word_embed_proj_dim": 32},
}  # fmt: skip


def config(model_type: str, **more: Any) -> dict[str, Any]:
    """A config of two layers of width 32."""
    return OWN.get(model_type, STANDARD) | more


def original(model_type: str, task: str = "classification", seed: int = 0, **more: Any) -> Any:
    """transformers' own model in evaluation mode, in float64, its weights large enough to tell apart."""
    torch.manual_seed(seed)
    kind: Any = AutoModelForCausalLM if task == "causal_lm" else AutoModelForSequenceClassification
    told = AutoConfig.for_model(model_type, **config(model_type, **more))
    model = kind.from_config(told, attn_implementation="eager", dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def saved(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the file that `save_pretrained` writes."""
    model.save_pretrained(folder)
    tensors: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return tensors


def sentences(seed: int = 0, count: int = 4, length: int = 12) -> torch.Tensor:
    """Token ids [count, length], the later ones shorter and filled up."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (count, length), generator=generator)
    for row in range(1, count):
        ids[row, length - 2 * row :] = PAD
    return ids
