"""`two_tower`: its tensors, what its towers give, and its derivatives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.func import jvp

from app.catalog import Architecture
from tests.influence.conftest import close
from worker.influence import directional
from worker.influence.networks import build, expected_tensors
from worker.influence.task import Task
from worker.influence.trajectory import Checkpoint

architecture: TypeAdapter[Any] = TypeAdapter(Architecture)

IMAGES: dict[str, dict[str, Any]] = {
    "linear": {"in_features": 144},
    "mlp": {"in_features": 144, "hidden": [7, 5]},
    "cnn": {"in_channels": 2, "channels": [4, 6], "norm": "batch"},
    "resnet": {"in_channels": 2, "depth": 10, "width": 2, "activation": "gelu"},
}
TEXT: dict[str, Any] = {
    "name": "transformer",
    "config": {"vocab_size": 11, "max_length": 4, "d_model": 8, "num_heads": 2, "dim_feedforward": 10},
}


def config(name: str) -> dict[str, Any]:
    return {"image": {"name": name, "config": IMAGES[name]}, "text": TEXT, "embedding_dim": 3}


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 2, 9, 8, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 11, (8, 4), generator=generator)


@pytest.mark.parametrize("name", IMAGES)
def test_the_catalog_counts_the_tensors_of_both_towers(name: str) -> None:
    checked = architecture.validate_python({"name": "two_tower", "config": config(name)}).config
    with torch.device("meta"):
        filled, bare = build("two_tower", checked.model_dump()), build("two_tower", config(name))
    assert expected_tensors(filled) == expected_tensors(bare)
    assert sum(p.numel() for p in filled.parameters()) == checked.num_parameters
    names = set(expected_tensors(bare).parameters)
    assert {"image_projection.weight", "text_projection.weight", "logit_scale"} < names
    assert not {"text.head.weight", "image.fc.weight", "image.layers.2.weight"} & names


@pytest.mark.parametrize("name", IMAGES)
def test_a_tower_is_the_network_without_its_outputs(name: str) -> None:
    """With the projection as the last layer's weight, a tower gives that network's outputs, scaled."""
    torch.manual_seed(0)
    network, (images, tokens) = build("two_tower", config(name)).double(), samples()
    matched = network(images, tokens)
    towers: list[tuple[str, dict[str, Any], torch.Tensor, torch.Tensor]] = [
        ("image", {"name": name, "config": IMAGES[name]}, images, matched[0]),
        ("text", TEXT, tokens, matched[1]),
    ]
    for tower, alone, inputs, found in towers:
        plain = build(alone["name"], alone["config"] | {"num_classes": 3}).double()
        weights = dict(getattr(network, tower).state_dict())
        last = [key.removesuffix(".weight") for key, _ in plain.named_parameters() if key.endswith(".weight")]
        head = next(key for key in reversed(last) if f"{key}.weight" not in weights)
        plain.load_state_dict(
            weights
            | {
                f"{head}.weight": network.state_dict()[f"{tower}_projection.weight"],
                f"{head}.bias": torch.zeros(3),
            }
        )
        outputs = plain(inputs)
        assert close(found, outputs / outputs.norm(dim=1, keepdim=True))
    assert float(matched[2].detach()) == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("name", IMAGES)
def test_its_losses_are_differentiated_forward_by_rules_of_our_own(name: str) -> None:
    torch.manual_seed(0)
    network, (images, tokens) = build("two_tower", config(name)).double(), samples()
    params = {key: p.detach() for key, p in network.named_parameters()}
    direction = {key: torch.randn_like(p) for key, p in params.items()}
    checkpoint = Checkpoint(1, (0.1,), params, dict(network.named_buffers()))
    task = Task(network, "clip", 4)
    found = directional.directional_derivative(task, checkpoint, images, tokens, direction)
    assert network not in directional._WITHOUT_RULES

    def shares(params: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs = task.outputs(params, checkpoint.buffers, images, tokens)
        return task.losses_and_shares(outputs, tokens)[1]

    assert close(found.derivatives, jvp(shares, (params,), (direction,))[1])


def test_what_a_tower_has_no_use_for_is_refused() -> None:
    wrong = config("mlp")
    wrong["image"] = {"name": "mlp", "config": {"in_features": 4, "num_classes": 3}}
    with pytest.raises(ValidationError, match="num_classes"):
        architecture.validate_python({"name": "two_tower", "config": wrong})
