"""What is proposed for a data set is what the catalog takes."""

from __future__ import annotations

from typing import Any

import pytest

from app.catalog import Optimizer, Task, config_of
from app.store.tables import Dataset
from app.ui.proposals import Proposal, propose

LABELS = {"shape": [], "dtype": "int64", "min": 0, "max": 4}


def proposed(given: dict[str, Any], target: dict[str, Any], classes: int | None, n: int = 1000) -> Proposal:
    return propose(Dataset(num_samples=n, num_classes=classes, info={"input": given, "target": target}))


@pytest.mark.parametrize(
    ("given", "target", "classes", "networks"),
    [
        ({"shape": [8, 8, 1], "dtype": "uint8", "kind": "image"}, LABELS, 5, ["cnn", "mlp", "linear"]),
        ({"shape": [224, 224, 3], "dtype": "uint8", "kind": "image"}, LABELS, 5, ["cnn", "mlp", "linear"]),
        ({"shape": [3, 32, 48], "dtype": "float32", "kind": "image"}, LABELS, 5, ["cnn", "mlp", "linear"]),
        ({"shape": [3, 2, 2], "dtype": "float32", "kind": "image"}, LABELS, 5, ["mlp", "linear"]),
        ({"shape": [12], "dtype": "float32", "kind": "array"}, LABELS, 5, ["mlp", "linear"]),
        ({"shape": [], "dtype": "float32", "kind": "array"}, LABELS, 5, ["mlp", "linear"]),
        ({"shape": [9], "dtype": "int64", "min": 0, "max": 30}, LABELS, 5, ["transformer"]),
        ({"shape": [12], "dtype": "float32"}, {"shape": [], "dtype": "float32"}, None, ["mlp", "linear"]),
        ({"shape": [12], "dtype": "float32"}, {"shape": [3], "dtype": "float32"}, None, ["mlp", "linear"]),
    ],
)
def test_networks_take_the_samples_they_are_proposed_for(
    given: dict[str, Any], target: dict[str, Any], classes: int | None, networks: list[str]
) -> None:
    told = proposed(given, target, classes)
    assert list(told.networks) == networks
    task = Task.model_validate(told.task)
    Optimizer.model_validate(told.optimizer)
    for name, config in told.networks.items():
        built = config_of({"name": name, "config": config})
        shape = tuple(given["shape"])
        assert built.check_input(shape, given["dtype"], given.get("max"), given.get("min")) is None
        fits = built.check_targets(
            task, tuple(target["shape"]), target["dtype"], target.get("min"), target.get("max")
        )
        assert fits is None


def test_a_class_of_a_single_kind_still_gets_two_outputs() -> None:
    target = LABELS | {"max": 0}
    assert proposed({"shape": [4], "dtype": "float32"}, target, 1).networks["linear"]["num_classes"] == 2


def test_token_ids_without_targets_are_left_to_who_knows_the_network() -> None:
    target = {"shape": [9], "dtype": "int64", "taken_from": "inputs"}
    told = proposed({"shape": [9], "dtype": "int64", "min": 0, "max": 30}, target, None)
    assert told.task["type"] == "causal_lm"
    assert told.first == ""


@pytest.mark.parametrize(("n", "steps"), [(50, 120), (600, 300), (5000, 600), (60_000, 2500)])
def test_a_run_takes_neither_a_moment_nor_a_day(n: int, steps: int) -> None:
    told = proposed({"shape": [4], "dtype": "float32"}, LABELS, 5, n)
    taken = told.epochs * -(-n // told.batch_size)
    assert steps / 2 <= taken <= 2 * steps
