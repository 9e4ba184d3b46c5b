"""Losses, predictions, and networks that forward mode would stumble over."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from worker.influence.directional import directional_derivative, gradient, hvp
from worker.influence.task import Loss, Task, Tensors
from worker.influence.trajectory import Arrays, Checkpoint

NONE = torch.empty(0)  # targets, where they are not looked at


def task(loss: Loss) -> Task:
    return Task(nn.Identity(), loss)


@pytest.mark.parametrize("loss", ["bce_with_logits", "mse"])
def test_a_single_output_may_come_with_a_dimension_or_without(loss: Loss) -> None:
    outputs, targets = torch.tensor([0.5, -2.0, 3.0]), torch.tensor([1, 0, 0])
    plain = task(loss).losses_of(outputs, targets)
    assert plain.shape == (3,)
    for shaped in (outputs[:, None], outputs):
        for wanted in (targets[:, None], targets.double()):
            assert torch.equal(task(loss).losses_of(shaped, wanted), plain)


def test_many_outputs_are_averaged() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    assert task("mse").losses_of(outputs, targets).tolist() == [2.5, 5.0]


def test_predictions_are_classes_signs_and_values() -> None:
    logits = torch.tensor([[0.1, 2.0, -1.0], [3.0, 0.0, 0.0]])
    assert task("cross_entropy").predictions(logits, NONE).tolist() == [1, 0]
    assert task("bce_with_logits").predictions(logits[:, :1] - 1, NONE).tolist() == [0, 1]
    assert task("mse").predictions(torch.tensor([0.5, -2.0]), NONE).tolist() == [0.5, -2.0]
    assert task("mse").predictions(torch.tensor([[0.5, 1.5]]), NONE).tolist() == [1.0]


class Attention(nn.Module):
    """Token ids through an encoder layer and scaled dot product attention, with a tied output."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 5, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        h = self.layer(self.embed(tokens))
        h = nn.functional.scaled_dot_product_attention(h, h, h)
        logits: torch.Tensor = self.out(h.mean(1))
        return logits


def test_attention_is_differentiated_forwards_and_its_tied_weights_count_once() -> None:
    torch.manual_seed(0)
    network = Attention().double()
    assert torch.backends.mha.get_fastpath_enabled()
    params: Tensors = {name: p.detach() for name, p in network.named_parameters()}
    checkpoint = Checkpoint(1, (0.1,), params, {})
    data = Arrays(torch.randint(0, 5, (6, 4)), torch.randint(0, 5, (6,)))
    subject, u = Task(network, "cross_entropy"), {name: torch.randn_like(p) for name, p in params.items()}
    slope = gradient(subject, checkpoint, data, chunk=4)
    found = directional_derivative(subject, checkpoint, data.inputs, data.targets, u)
    assert "out.weight" not in params
    assert found.derivatives.mean() == pytest.approx(sum(float((slope[n] * u[n]).sum()) for n in u), rel=1e-9)
    curved = hvp(subject, checkpoint, data, u, chunk=4)
    step = {n: p + 1e-6 * u[n] for n, p in params.items()}
    ahead = gradient(subject, Checkpoint(1, (0.1,), step, {}), data, chunk=4)
    for name, product in curved.items():
        assert torch.allclose((ahead[name] - slope[name]) / 1e-6, product, atol=1e-4)
    assert torch.backends.mha.get_fastpath_enabled()
