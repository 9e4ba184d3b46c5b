"""What the recorder keeps for exact scores: initial state, batches, and what the optimizer carries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from diffin import Recorder
from diffin.optimizers import carried, described
from diffin.recording import Recording

ARCHITECTURE = {"name": "linear", "config": {"in_features": 3, "num_classes": 2}}
Make = Callable[[nn.Module], torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[Make, dict[str, Any]]] = {
    "sgd": (
        lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        {"name": "sgd", "momentum": 0.9, "weight_decay": 0.01},
    ),
    "adam": (
        lambda model: torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.8, 0.95)),
        {"name": "adam", "betas": [0.8, 0.95], "eps": 1e-8, "weight_decay": 0.0},
    ),
    "adamw": (
        lambda model: torch.optim.AdamW(model.parameters(), lr=0.1, eps=1e-6),
        {"name": "adamw", "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 0.01},
    ),
}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def recorder(folder: Path, **given: Any) -> Recorder:
    return Recorder(name="run", architecture=ARCHITECTURE, directory=folder, every=2, **given)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(model(torch.randn(4, 3)).square().mean())
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torchs_optimizers_are_told_and_kept_as_they_are(tmp_path: Path, model: nn.Module, name: str) -> None:
    make, told = OPTIMIZERS[name]
    optimizer = make(model)
    kept = recorder(tmp_path / "run", optimizer=optimizer, optimizer_state=True)
    for step in (1, 2):
        train(model, optimizer)
        kept.step(model, step, 0.1)
    assert kept.recording.run["optimizer"] == told
    [checkpoint] = Recording.open(tmp_path / "run").checkpoints
    held = load_file(tmp_path / "run" / (checkpoint.optimizer_file or ""))
    for parameter, tensor in model.named_parameters():
        state = {k: v for k, v in optimizer.state[tensor].items() if k != "step"}
        assert state
        for kind, value in state.items():
            assert torch.equal(held.pop(f"{kind}.{parameter}"), value)
    assert not held


def test_plain_sgd_carries_nothing(tmp_path: Path, model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = recorder(tmp_path / "run", optimizer=optimizer, optimizer_state=True)
    for step in (1, 2):
        train(model, optimizer)
        kept.step(model, step, 0.1)
    assert [one.optimizer_file for one in kept.recording.checkpoints] == [None]


def test_a_parameter_without_a_step_carries_zeros(model: nn.Module) -> None:
    optimizer = OPTIMIZERS["adam"][0](model)
    assert all(not value.any() for value in carried(optimizer, model).values())
    assert len(carried(optimizer, model)) == 4


def test_names_are_those_inside_the_wrapper(model: nn.Module) -> None:
    wrapped = nn.DataParallel(model)
    optimizer = OPTIMIZERS["sgd"][0](wrapped)
    assert set(carried(optimizer, wrapped)) == {"momentum_buffer.weight", "momentum_buffer.bias"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), "nesterov"),
        (lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True), "amsgrad"),
        (lambda p: torch.optim.RMSprop(p, lr=0.1), "not RMSprop"),
        (
            lambda p: torch.optim.SGD([{"params": p[:1], "weight_decay": 0.1}, {"params": p[1:]}], lr=0.1),
            "differ",
        ),
        (lambda p: torch.optim.SGD([{"params": p[:1]}, {"params": p[1:], "lr": 0.2}], lr=0.1), "differ"),
    ],
)
def test_an_optimizer_the_service_does_not_know_is_refused(model: nn.Module, make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        described(make(list(model.parameters())))


def test_state_wants_the_optimizer_itself(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="optimizer=optimizer"):
        recorder(tmp_path / "run", optimizer_state=True)


def test_the_initial_state_is_kept_before_the_first_step(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run")
    kept.start(model)
    first = load_file(tmp_path / "run" / "step-00000000.safetensors")
    assert all(torch.equal(first[name], value) for name, value in model.state_dict().items())
    [checkpoint] = Recording.open(tmp_path / "run").checkpoints
    assert (checkpoint.step, checkpoint.learning_rates, checkpoint.learning_rate) == (0, (), None)
    with pytest.raises(ValueError, match="once, before"):
        kept.start(model)


def test_the_batches_are_kept_with_short_ones_filled(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run")
    kept.step(model, 1, 0.1, indices=[4, 1, 0])
    kept.step(model, 2, 0.1, indices=torch.tensor([2, 3]))
    kept.finish(model)
    name = Recording.open(tmp_path / "run").batch_order
    assert load_file(tmp_path / "run" / (name or ""))["batch_order"].tolist() == [[4, 1, 0], [2, 3, -1]]


@pytest.mark.parametrize("given", [([1], None), (None, [1])])
def test_batches_are_told_of_every_step_or_of_none(tmp_path: Path, model: nn.Module, given: Any) -> None:
    kept = recorder(tmp_path / "run")
    kept.step(model, 1, 0.1, indices=given[0])
    with pytest.raises(ValueError, match="step 2: give the indices of every step"):
        kept.step(model, 2, 0.1, indices=given[1])


@pytest.mark.parametrize("rows", [[], [3, -1]])
def test_a_batch_names_rows_of_the_training_set(tmp_path: Path, model: nn.Module, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="rows of the training set"):
        recorder(tmp_path / "run").step(model, 1, 0.1, indices=rows)
