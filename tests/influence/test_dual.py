"""Dual numbers against torch's forward mode, and what they leave to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, jvp

from worker.influence import dual
from worker.influence.directional import directional_derivative
from worker.influence.memory import by_pixel
from worker.influence.task import Task
from worker.influence.trajectory import Checkpoint

Tensors = dict[str, torch.Tensor]


class Viewing(nn.Module):
    """Takes its images to be laid out by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(2, 3, 3), nn.Linear(48, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.convolution(x).relu().view(len(x), -1))
        return y


class Unruled(Viewing):
    """With an activation that has no rule."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.selu(self.last(self.convolution(x).flatten(1)))


def drawn(network: nn.Module) -> tuple[Tensors, Tensors, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    params = {name: draw(*p.shape) for name, p in network.named_parameters()}
    return params, {name: draw(*p.shape) for name, p in params.items()}, draw(5, 2, 6, 6)


@pytest.mark.parametrize("laid_out", [by_pixel, lambda x: x])
def test_a_network_that_views_gives_torchs_derivative(laid_out: object) -> None:
    network = Viewing().double()
    params, direction, images = drawn(network)
    expected = jvp(lambda p: functional_call(network, p, (images,)), (params,), (direction,))
    assert callable(laid_out)
    at = laid_out(images)
    value, tangent, _ = dual.jvp(
        lambda p: (functional_call(network, p, (at,)), None), (params,), (direction,)
    )
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(tangent, expected[1])


def test_what_has_no_rule_is_left_to_torch() -> None:
    network = Unruled().double()
    params, direction, images = drawn(network)
    with pytest.raises(dual.NoRuleError, match="selu"):
        dual.jvp(lambda p: (functional_call(network, p, (images,)), None), (params,), (direction,))
    task, targets = Task(network, "cross_entropy"), torch.tensor([0, 1, 2, 0, 1])
    at = Checkpoint(1, (0.1,), params, {})
    found = directional_derivative(task, at, images, targets, direction)
    expected = jvp(lambda p: task.losses(p, {}, images, targets), (params,), (direction,))
    torch.testing.assert_close(found.derivatives, expected[1])
