"""Two lines around a plain loop: the recorder learns steps and learning rates from the optimizer itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from diffin import Recorder
from diffin.recording import Recording

ARCHITECTURE = {"name": "linear", "config": {"in_features": 3, "num_classes": 2}}


@pytest.fixture
def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


@pytest.fixture
def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.4)


def recorder(folder: Path, model: nn.Module, optimizer: Any, **given: Any) -> Recorder:
    saving = given if {"every", "save_at"} & set(given) else {"every": 2} | given
    return Recorder(model, architecture=ARCHITECTURE, optimizer=optimizer, directory=folder, **saving)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(model(torch.randn(4, 3)).square().mean())
        optimizer.step()


def test_every_step_is_recorded_with_the_rate_it_had(
    tmp_path: Path, model: nn.Module, sgd: torch.optim.Optimizer
) -> None:
    schedule = torch.optim.lr_scheduler.StepLR(sgd, step_size=1, gamma=0.5)
    kept = recorder(tmp_path / "run", model, sgd)
    for _ in range(3):
        train(model, sgd)
        schedule.step()
    kept.finish()
    first, last = Recording.open(tmp_path / "run").checkpoints
    assert (first.step, first.learning_rates) == (2, (0.4, 0.2))
    assert (last.step, last.learning_rates) == (3, (0.1,))
    tensors = load_file(tmp_path / "run" / last.file)
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())
    assert kept.recording.run["name"] == "Linear"
    assert kept.recording.run["optimizer"] == {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}


def test_a_block_finishes_the_run_and_lets_the_optimizer_go(
    tmp_path: Path, model: nn.Module, sgd: torch.optim.Optimizer
) -> None:
    with recorder(tmp_path / "run", model, sgd) as kept:
        train(model, sgd, 3)
    train(model, sgd, 2)
    assert [one.step for one in kept.recording.checkpoints] == [2, 3]


def test_a_loop_that_fails_keeps_what_was_recorded(
    tmp_path: Path, model: nn.Module, sgd: torch.optim.Optimizer
) -> None:
    with pytest.raises(ZeroDivisionError), recorder(tmp_path / "run", model, sgd):
        train(model, sgd, 3)
        raise ZeroDivisionError
    assert [one.step for one in Recording.open(tmp_path / "run").checkpoints] == [2]
    train(model, sgd)  # nobody listens any more


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel], ids=["plain", "DataParallel"])
def test_adam_is_kept_with_what_it_carries(tmp_path: Path, model: nn.Linear, wrap: Any) -> None:
    wrapped = wrap(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=0.1)
    kept = recorder(tmp_path / "run", wrapped, optimizer)
    train(wrapped, optimizer, 2)
    [checkpoint] = kept.recording.checkpoints
    held = load_file(tmp_path / "run" / (checkpoint.optimizer_file or ""))
    assert torch.equal(held["exp_avg_sq.weight"], optimizer.state[model.weight]["exp_avg_sq"])
    assert sorted(held) == [
        f"{kind}.{name}" for kind in ("exp_avg", "exp_avg_sq") for name in ("bias", "weight")
    ]


@pytest.mark.parametrize(
    ("make", "asked", "held"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), None, False),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), True, True),
        (lambda p: torch.optim.Adam(p, lr=0.1), False, False),
    ],
)
def test_what_the_optimizer_carries_is_kept_as_asked(
    tmp_path: Path, model: nn.Module, make: Any, asked: bool | None, held: bool
) -> None:
    optimizer = make(model.parameters())
    kept = recorder(tmp_path / "run", model, optimizer, optimizer_state=asked)
    train(model, optimizer, 2)
    assert (kept.recording.checkpoints[0].optimizer_file is not None) is held


def test_the_batches_may_be_told_before_their_steps(
    tmp_path: Path, model: nn.Module, sgd: torch.optim.Optimizer
) -> None:
    kept = recorder(tmp_path / "run", model, sgd)
    kept.start()
    kept.batch([5, 6])
    train(model, sgd)
    kept.batch(torch.tensor([1]))  # two backward passes for one step
    kept.batch([2])
    train(model, sgd)
    kept.batch([3])
    train(model, sgd)
    kept.finish()
    assert [one.step for one in kept.recording.checkpoints] == [0, 2, 3]
    order = load_file(tmp_path / "run" / (kept.recording.batch_order or ""))["batch_order"]
    assert order.tolist() == [[5, 6], [1, 2], [3, -1]]


def test_a_batch_left_out_is_told(tmp_path: Path, model: nn.Module, sgd: torch.optim.Optimizer) -> None:
    kept = recorder(tmp_path / "run", model, sgd)
    kept.batch([5, 6])
    train(model, sgd)
    with pytest.raises(ValueError, match="step 2: give the indices of every step"):
        train(model, sgd)


def test_steps_told_by_hand_beside_those_of_the_optimizer_are_refused(
    tmp_path: Path, model: nn.Module, sgd: torch.optim.Optimizer
) -> None:
    kept = recorder(tmp_path / "run", model, sgd)
    train(model, sgd)
    with pytest.raises(ValueError, match="by themselves"):
        kept.step(model, 1, 0.4)


def test_without_torchs_optimizer_steps_are_counted(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run", model, {"name": "sgd"})
    for rate in (0.3, 0.2, 0.1):
        kept.step(lr=rate)
    kept.finish()
    assert [one.learning_rates for one in kept.recording.checkpoints] == [(0.3, 0.2), (0.1,)]
    with pytest.raises(ValueError, match="learning rate"):
        recorder(tmp_path / "other", model, {"name": "sgd"}).step()


def test_rates_that_come_to_differ_are_refused(tmp_path: Path, model: nn.Linear) -> None:
    groups: list[dict[str, Any]] = [{"params": [model.weight]}, {"params": [model.bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    recorder(tmp_path / "run", model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.2
    with pytest.raises(ValueError, match="differ in their learning rates"):
        train(model, optimizer)


def test_the_optimizer_of_another_model_is_refused(tmp_path: Path, sgd: torch.optim.Optimizer) -> None:
    with pytest.raises(ValueError, match="trains no parameter of this model"):
        recorder(tmp_path / "run", nn.Linear(3, 2), sgd)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "run"}, "example_inputs"),
        ({"name": "run", "example_inputs": torch.zeros(2, 3)}, "give the model"),
        ({"architecture": ARCHITECTURE}, "name="),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recorder(**given, directory=tmp_path / "run", every=1)
    recorder(tmp_path / "run", nn.Linear(3, 2), {"name": "sgd"})  # the folder is as free as before
