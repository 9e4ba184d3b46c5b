"""Which configs of language models are let through, and what is said of data for them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from app.catalog import Architecture

architecture: TypeAdapter[Any] = TypeAdapter(Architecture)
BERT: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 16,
    "pad_token_id": 1, "num_attention_heads": 2,
}  # fmt: skip


def taken(name: str = "hf/bert", **more: Any) -> Any:
    return architecture.validate_python({"name": name, "config": BERT | more}).config


def test_a_config_as_it_was_saved_is_taken_without_what_makes_no_difference() -> None:
    saved: dict[str, Any] = {
        "_name_or_path": "google-bert/bert-base-uncased", "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0}, "transformers_version": "5.24.0",
        "dtype": "bfloat16", "hidden_dropout_prob": 0.1, "is_decoder": False, "hidden_act": "gelu",
    }  # fmt: skip
    config = taken(**saved)
    kept = {"num_labels": 3, "hidden_dropout_prob": 0.1, "is_decoder": False, "hidden_act": "gelu"}
    assert config.of_transformers() == BERT | kept
    assert config.num_outputs == 3 and taken().num_outputs == 2 and taken(num_labels=5).num_outputs == 5


@pytest.mark.parametrize(
    "more",
    [
        {"auto_map": {"AutoModel": "them/theirs--model.Model"}},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"attn_implementation": "kernels-community/flash-attn"},
        {"_attn_implementation": "sdpa"},
        {"is_decoder": True},
        {"hidden_act": "../../activation"},
        {"checkpoint_path": "somewhere"},
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
        {"layers": [[[[[[0]]]]]]},
        {"layer_types": ["full_attention"] * 5000},
        {"initializer_range": float("nan")},
        {"intermediate_size": 10**15},
        {"pad_token_id": 50},
        {"num_hidden_layers": 1000},
        {"hidden_size": 100_000},
        {"hidden_size": None},
        {"num_attention_heads": 3},
        {"num_attention_heads": "two"},
        {"intermediate_size": 0},
        {"hidden_dropout_prob": 1.5},
        {"hidden_act": "gelu_newest"},
    ],
)
def test_a_config_that_brings_code_files_or_absurd_sizes_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        taken(**more)
    told = str(refused.value)
    assert next(iter(more)) in told or "parameters" in told


def test_what_pads_has_to_be_said() -> None:
    with pytest.raises(ValidationError, match="pad_token_id"):
        architecture.validate_python(
            {"name": "hf/bert", "config": {key: BERT[key] for key in BERT if key != "pad_token_id"}}
        )


def test_a_model_type_that_is_not_listed_is_refused() -> None:
    with pytest.raises(ValidationError, match="hf/bert"):
        taken("hf/deberta-v2")


def test_token_ids_must_be_in_the_vocabulary_and_within_the_positions() -> None:
    assert taken().check_input((16,), "int64", 49, 0) is None
    assert "16" in taken().check_input((17,), "int64", 49, 0)
    assert "vocab_size" in taken().check_input((16,), "int64", 50, 0)
    assert "token ids" in taken().check_input((16,), "float32", 1, 0)
    assert taken("hf/roberta").check_input((14,), "int64", 49, 0) is None  # which counts from pad + 1
    assert "14" in taken("hf/roberta").check_input((15,), "int64", 49, 0)
