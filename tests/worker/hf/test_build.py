"""Building: from the config alone, on the device asked for, with refusals in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.hf.models import PAD, config, original, saved, sentences
from worker.hf.build import BuildError, build
from worker.influence.next_token import tokens_seen

CPU = torch.device("cpu")


def test_parameters_take_no_memory_and_the_rest_has_its_values() -> None:
    network = build("llama", config("llama"), "classification", CPU)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    own = dict(original("llama").named_buffers())
    kept = dict(network._model[0].named_buffers())
    assert kept.keys() == own.keys() and all(torch.equal(kept[name], own[name]) for name in own)


def test_the_dtype_of_a_config_is_not_taken() -> None:
    network = build("bert", config("bert", dtype="bfloat16", torch_dtype="float16"), "classification")
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("model_type", "more", "words"),
    [
        ("bert", {"hidden_size": 30, "num_attention_heads": 4}, "multiple of the number of attention heads"),
        ("bert", {"hidden_act": "no_such_act"}, "no_such_act"),
        ("llama", {"rope_parameters": {"rope_type": "none_such"}}, "llama"),
        ("bert", {"type_vocab_size": 10**9}, "32,0"),
        ("gpt_neo", {"max_position_embeddings": 100_000}, "positions"),
    ],
)
def test_a_config_of_no_network_is_refused_in_words(
    model_type: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(BuildError, match=words):
        build(model_type, config(model_type, **more), "classification", CPU)


def test_padding_is_what_comes_before_the_first_and_after_the_last_token() -> None:
    tokens = torch.tensor([[5, PAD, 6, PAD, PAD], [PAD, PAD, 5, 6, 7], [PAD] * 5])
    seen = [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]
    assert tokens_seen(tokens, PAD).tolist() == [[bool(one) for one in row] for row in seen]
    assert tokens_seen(tokens, None).all()


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "gpt_neo", "mistral"])
def test_neither_more_padding_nor_a_sample_of_it_alone_changes_anything(
    model_type: str, tmp_path: Path
) -> None:
    network = build(model_type, config(model_type), "classification", CPU)
    held = {name: t.float() for name, t in saved(original(model_type), tmp_path).items()}

    def outputs(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = torch.func.functional_call(network, held, (ids,))
        return found

    ids = sentences()
    longer = torch.cat([ids, torch.full((4, 20), PAD)], 1)
    empty = torch.cat([longer, torch.full((1, 32), PAD)])
    assert torch.allclose(outputs(longer), outputs(ids), rtol=1e-6, atol=1e-6)
    assert torch.allclose(outputs(empty)[:4], outputs(ids), rtol=1e-6, atol=1e-6)
    assert outputs(empty).isfinite().all()


def test_transformers_is_offline_and_is_not_loaded_by_a_worker_that_has_no_use_for_it() -> None:
    code = (
        "import sys, worker.tasks, worker.networks\n"
        "assert 'transformers' not in sys.modules\n"
        "import worker.hf.build, huggingface_hub.constants as c\n"
        "assert c.HF_HUB_OFFLINE\n"
    )
    unset = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=unset, timeout=120)
