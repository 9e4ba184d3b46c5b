"""What is refused of a config before a file is sent is what transformers builds no working model of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.activations import ACT2FN

from app.catalog.buildable import GROUPS, HEAD_NAMES, HEADS, KNOWN_ACTIVATIONS, not_buildable
from app.catalog.language_models import FAMILIES
from tests.worker.hf.models import config, sentences
from worker.hf.build import BuildError, build

LEFT_OUT = object()


def changes(family: str) -> list[dict[str, Any]]:
    heads = HEAD_NAMES.get(family, "num_attention_heads")
    alone: dict[str, Any] = {"num_attention_heads": LEFT_OUT} if family in HEAD_NAMES else {}
    found: list[dict[str, Any]] = [
        {heads: 3, "num_key_value_heads": 3},
        {heads: 4, "num_key_value_heads": 3},
        {heads: 4, "num_key_value_heads": LEFT_OUT},
        {heads: LEFT_OUT, "num_key_value_heads": LEFT_OUT},
        {heads: 0},
        {heads: 2.5},
    ]
    return [{}, *(alone | one for one in found)]


def works(family: str, told: dict[str, Any]) -> bool:
    """Whether a model is built of the config and takes a sentence."""
    try:
        network = build(family, told, "classification", torch.device("cpu"), initial=True)
        network(sentences(count=2))
    except (BuildError, RuntimeError, ZeroDivisionError, ValueError):
        return False
    return True


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_is_refused_where_it_makes_no_working_model(family: str) -> None:
    width = FAMILIES[family].config.model_validate(config(family)).width
    for change in changes(family):
        told = {key: value for key, value in (config(family) | change).items() if value is not LEFT_OUT}
        wrong = not_buildable(family, told, width)
        assert (wrong is None) == works(family, told), (change, wrong)


def test_defaults_and_activations_are_those_of_transformers() -> None:
    assert set(ACT2FN) == KNOWN_ACTIVATIONS
    for family in FAMILIES:
        told = AutoConfig.for_model(family)
        if family in HEADS:
            assert told.num_attention_heads == HEADS[family]
        if GROUPS.get(family) is not None:
            assert told.num_key_value_heads == GROUPS[family]
