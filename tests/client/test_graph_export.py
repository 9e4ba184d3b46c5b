"""The graph of a model in training: complete, computed alike, and the training undisturbed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
import torch
from torch import Tensor, nn

from diffin import Recorder
from diffin.graph import METADATA, ExportError, export_graph, trained_names
from worker.influence.networks import expected_tensors
from worker.influence.networks.graph import GraphNetwork
from worker.loading import load_checkpoint, load_onnx, load_optimizer_state


class Odd(nn.Module):
    """What makes an export difficult: a norm in training, chance, tied, frozen and unused tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.frozen = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.spare = nn.Linear(2, 2)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.words.weight
        self.frozen.requires_grad_(False)
        self.frozen.eval()  # as people do who tune the rest

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.norm(self.frozen(self.words(tokens)).mean(1)))
        logits: Tensor = self.head(x)
        return logits


class Exported(NamedTuple):
    model: Odd
    path: Path
    before: Any
    after: Any


def condition(model: nn.Module) -> Any:
    """What an export must leave alone."""
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return modes, state, gradients, torch.get_rng_state()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    model = Odd()
    torch.autograd.backward(model(torch.randint(11, (4, 5))).sum())  # in the middle of training
    path = tmp_path_factory.mktemp("graph") / "network.onnx"
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = condition(model)
    tokens = torch.zeros(1, 5, dtype=torch.int64)
    export_graph(nn.DataParallel(model), tokens, path, trained_names(model, optimizer))
    return Exported(model, path, before, condition(model))


def test_training_is_not_disturbed(exported: Exported) -> None:
    (modes, state, gradients, chance), (modes_after, after, gradients_after, chance_after) = (
        exported.before,
        exported.after,
    )
    assert modes_after == modes
    assert all(torch.equal(after[name], value) for name, value in state.items())
    for one, other in zip(gradients, gradients_after, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    assert torch.equal(chance, chance_after)


def test_the_roles_of_all_tensors_are_told(exported: Exported) -> None:
    [entry] = [one for one in onnx.load(exported.path).metadata_props if one.key == METADATA]
    told = json.loads(entry.value)
    assert told["parameters"] == ["words.weight", "norm.weight", "norm.bias", "spare.weight", "spare.bias"]
    assert told["buffers"] == [
        "frozen.weight", "frozen.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    ]  # fmt: skip
    assert told["tied"] == {"head.weight": "words.weight"}
    assert set(told["unused"]) == {"spare.weight", "spare.bias", "norm.num_batches_tracked"}


def test_the_graph_computes_what_the_model_does_in_evaluation(exported: Exported, tmp_path: Path) -> None:
    info = load_onnx(exported.path, tmp_path / "canonical")
    network = GraphNetwork.read(tmp_path / "canonical")
    assert {name for name, _ in network.named_parameters()} == set(info.parameters)
    tokens = torch.randint(11, (7, 5))  # of a batch, an example of one sample was enough
    model = exported.model.eval()
    torch.testing.assert_close(network(tokens), model(tokens), rtol=1e-5, atol=1e-6)
    model.train()


def test_what_the_recorder_keeps_is_what_the_graph_expects(tmp_path: Path) -> None:
    """Tied, frozen, unused and counting tensors among it, and what Adam carries of those trained."""
    model = Odd()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    tokens = torch.randint(11, (4, 5))
    with Recorder(model, tokens, optimizer=optimizer, every=1, directory=tmp_path / "run") as kept:
        torch.autograd.backward(model(tokens).sum())
        optimizer.step()
    load_onnx(tmp_path / "run" / (kept.recording.architecture_file or ""), tmp_path / "canonical")
    expected = expected_tensors(GraphNetwork.read(tmp_path / "canonical"))
    [one] = kept.recording.checkpoints
    info = load_checkpoint(tmp_path / "run" / one.file, expected, tmp_path / "state")
    assert sorted(info.parameters) == sorted(trained_names(model, optimizer))
    carried = tmp_path / "run" / (one.optimizer_file or "")
    assert load_optimizer_state(carried, expected, tmp_path / "carried") == ["exp_avg", "exp_avg_sq"]


def test_the_exporter_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_graph(nn.Linear(3, 2), torch.zeros(2, 3), tmp_path / "n.onnx", ["weight", "bias"])
    assert capfd.readouterr() == ("", "")


class Choosing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Fixed(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(2, 3))


class Telling(nn.Linear):
    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x), "hidden": x * 2}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Choosing, "torch.where"),
        (Fixed, "number of samples"),
        (Telling, "returns 2 tensors"),
        (lambda *_: nn.ReLU(), "no output"),
    ],
)
def test_what_cannot_be_exported_is_told_with_the_way_out(
    tmp_path: Path, make: Callable[..., nn.Module], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match=words):
        export_graph(make(3, 2), torch.zeros(2, 3), tmp_path / "n.onnx", ["weight", "bias"])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("given", [(), torch.tensor(1.0), [[1.0, 2.0]], torch.zeros(0, 3)])
def test_example_inputs_are_tensors_of_some_samples(tmp_path: Path, given: Any) -> None:
    with pytest.raises(ExportError, match="example_inputs"):
        export_graph(nn.Linear(3, 2), given, tmp_path / "n.onnx", ["weight"])
