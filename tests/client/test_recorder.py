"""The recorder keeps a plain loop's states and learning rates, and refuses a loop that misuses it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from diffin import Recorder
from diffin.recorder import state
from diffin.recording import Recording

ARCHITECTURE = {"name": "linear", "config": {"in_features": 3, "num_classes": 2}}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def recorder(folder: Path, **given: Any) -> Recorder:
    saving = given if {"every", "save_at"} & set(given) else {"every": 2} | given
    return Recorder(name="run", architecture=ARCHITECTURE, directory=folder, **saving)


def train(recorder: Recorder, model: nn.Module, rates: Sequence[float], first: int = 1) -> None:
    """Plain SGD on random data, one step a rate."""
    for step, rate in enumerate(rates, start=first):
        loss = model(torch.randn(4, 3)).square().mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.sub_(rate * gradient)
        recorder.step(model, step, rate)


def test_a_checkpoint_holds_the_state_of_its_step(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run", every=2)
    train(kept, model, [0.1, 0.1])
    after_two = {name: value.clone() for name, value in model.state_dict().items()}
    train(kept, model, [0.1], first=3)
    kept.finish(model)
    first, last = (load_file(tmp_path / "run" / one.file) for one in kept.recording.checkpoints)
    assert all(torch.equal(first[name], after_two[name]) for name in after_two)
    assert all(torch.equal(last[name], value) for name, value in model.state_dict().items())
    assert not torch.equal(first["weight"], last["weight"])


def test_every_step_keeps_its_own_learning_rate(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run", save_at=[1, 4])
    train(kept, model, [0.0, 0.1, 0.2, 0.3, 0.4])
    kept.finish(model, 5)
    checkpoints = Recording.open(tmp_path / "run").checkpoints
    assert [one.step for one in checkpoints] == [1, 4, 5]
    assert [one.learning_rates for one in checkpoints] == [(0.0,), (0.1, 0.2, 0.3), (0.4,)]


def test_equal_learning_rates_are_sent_as_one_number(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run", every=3)
    train(kept, model, [0.1, 0.1, 0.1, 0.3, 0.2, 0.1])
    assert [one.learning_rate for one in kept.recording.checkpoints] == [0.1, (0.3, 0.2, 0.1)]


def test_finish_adds_nothing_when_the_last_step_was_kept(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run", every=2)
    train(kept, model, [0.1] * 4)
    kept.finish(model)
    assert [one.step for one in kept.recording.checkpoints] == [2, 4]


def test_the_folder_alone_describes_the_run(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run", batch_size=4, train_size=100, preprocessing={"mean": [0.5]})
    train(kept, model, [0.1, 0.1])
    kept.finish(model)
    found = Recording.open(tmp_path / "run")
    assert found.run["architecture"] == ARCHITECTURE
    assert found.run["task"] == {"type": "classification", "loss": "cross_entropy"}
    assert (found.run["batch_size"], found.run["train_size"]) == (4, 100)
    assert found.run["preprocessing"] == {"mean": [0.5]}
    assert found.uploaded is None
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == [
        "step-00000002.safetensors",
        "trajectory.json",
    ]


def test_the_manifest_is_plain_json(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run")
    train(kept, model, [0.5, 0.25])
    body = json.loads((tmp_path / "run" / "trajectory.json").read_text())
    assert body["checkpoints"] == [
        {"step": 2, "file": "step-00000002.safetensors", "learning_rates": [0.5, 0.25]}
    ]


def test_tied_and_transposed_weights_are_written_whole(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3)
            self.two = nn.Linear(3, 3)
            self.two.weight = self.one.weight
            self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)

    model = Tied()
    kept = recorder(tmp_path / "run", every=1)
    kept.step(model, 1, 0.1)
    saved = load_file(tmp_path / "run" / "step-00000001.safetensors")
    assert torch.equal(saved["one.weight"], saved["two.weight"])
    assert torch.equal(saved["turned"], model.get_buffer("turned"))


def test_the_names_that_torch_compile_and_ddp_add_are_taken_off() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    assert set(state(Wrapper(nn.Linear(3, 2)))) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (0, "the first being 1"),
        (2, "steps must go forwards"),
        (3, "forwards"),
        (5, "after every optimizer step"),
    ],
)
def test_a_step_that_is_not_the_next_is_refused(
    tmp_path: Path, model: nn.Module, step: int, words: str
) -> None:
    kept = recorder(tmp_path / "run", every=10)
    train(kept, model, [0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match=words):
        kept.step(model, step, 0.1)


def test_a_recording_that_starts_late_is_refused(tmp_path: Path, model: nn.Module) -> None:
    with pytest.raises(ValueError, match="learning rates of the steps before it are missing"):
        recorder(tmp_path / "run").step(model, 100, 0.1)


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
def test_a_learning_rate_that_cannot_be_is_refused(tmp_path: Path, model: nn.Module, rate: float) -> None:
    with pytest.raises(ValueError, match="must be finite and not negative"):
        recorder(tmp_path / "run").step(model, 1, rate)


def test_finishing_at_another_step_or_before_any_is_refused(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run")
    with pytest.raises(ValueError, match="nothing to finish"):
        kept.finish(model)
    kept.step(model, 1, 0.1)
    with pytest.raises(ValueError, match="the last step recorded is 1"):
        kept.finish(model, 2)


def test_a_finished_recording_takes_no_more_steps(tmp_path: Path, model: nn.Module) -> None:
    kept = recorder(tmp_path / "run")
    kept.step(model, 1, 0.1)
    kept.finish(model)
    with pytest.raises(ValueError, match="was finished"):
        kept.step(model, 2, 0.1)


@pytest.mark.parametrize(
    "saving", [{}, {"every": 2, "save_at": [4]}, {"every": 0}, {"save_at": [0, 3]}], ids=str
)
def test_when_to_keep_must_be_said_once_and_make_sense(tmp_path: Path, saving: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="every"):
        Recorder(name="run", architecture=ARCHITECTURE, directory=tmp_path, **saving)


def test_another_recording_is_never_written_over(tmp_path: Path) -> None:
    recorder(tmp_path / "run")
    with pytest.raises(FileExistsError, match="holds a recording already"):
        recorder(tmp_path / "run")


def test_a_folder_without_a_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no trajectory\.json"):
        Recording.open(tmp_path)


def test_uploading_without_a_client_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no client"):
        recorder(tmp_path / "run").upload()


def test_the_client_is_imported_without_torch() -> None:
    found = "import sys, diffin, diffin.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", found], check=False).returncode == 0
