"""Images moved a little each time they are read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from worker.influence.selection.moved import Moved, mirrorable, movable, moved
from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint


def images(count: int = 200, side: int = 28) -> torch.Tensor:
    """Each pixel tells where it is: row and column are its two channels."""
    places = torch.arange(side, dtype=torch.float32)
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([rows, columns]).expand(count, 2, side, side)


def test_each_goes_its_own_way_and_the_edge_comes_in() -> None:
    found = moved(images(), torch.Generator().manual_seed(0), mirrored=False)
    assert found.shape == (200, 2, 28, 28)
    by = found[:, :, 14, 14] - 14
    assert set(by.flatten().tolist()) == {-2, -1, 0, 1, 2}
    assert len({tuple(one) for one in by.tolist()}) == 25
    rows = (torch.arange(28) + by[:, :1]).clamp(0, 27)
    columns = (torch.arange(28) + by[:, 1:]).clamp(0, 27)
    assert torch.equal(found[:, 0], rows[:, :, None].expand(200, 28, 28))
    assert torch.equal(found[:, 1], columns[:, None, :].expand(200, 28, 28))


def test_every_other_one_is_mirrored_where_that_means_nothing() -> None:
    found = moved(images(), torch.Generator().manual_seed(0), mirrored=True)
    goes = (found[:, 1, 14, 20] - found[:, 1, 14, 10]).tolist()
    assert set(goes) == {-10, 10} and 70 < goes.count(-10) < 130
    assert bool((found[:, 0, 20, 14] - found[:, 0, 10, 14] == 10).all())  # none is upside down


class Side(nn.Module):
    """Tells on which side it is brighter, or whether it is bright."""

    def __init__(self, sided: bool) -> None:
        super().__init__()
        self.scale, self.sided = nn.Parameter(torch.ones(())), sided

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))
        how = left - right if self.sided else left + right - 0.5
        return torch.stack([how, -how], 1) * self.scale


@pytest.mark.parametrize("sided", [True, False])
def test_a_network_tells_whether_left_and_right_mean_something(sided: bool) -> None:
    shown = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)) / 2
    shown[::2, ..., :4] += 0.4
    network = Side(sided)
    task, state = Task(network, "cross_entropy"), Checkpoint(1, (0.1,), dict(network.named_parameters()), {})
    with torch.no_grad():
        queries = Arrays(shown, network(shown).argmax(1))
    both = torch.tensor([0, 1, 1, 0])
    assert mirrorable(task, state, queries, both, 16) is not sided
    assert not mirrorable(task, state, queries, torch.tensor([0, 1, 2]), 16)  # of the last it knows nothing


def test_the_same_readings_are_the_same_and_the_next_one_is_another() -> None:
    data = Arrays(images(9), torch.arange(9))

    def read(times: int) -> list[torch.Tensor]:
        shown = Moved(data, seed=3, mirrored=True)
        return [torch.cat([x for x, _ in shown.chunks(4, [8, 1, 5, 0, 2])]) for _ in range(times)]

    first, second = read(2)
    assert torch.equal(first, read(1)[0]) and not torch.equal(first, second)
    shown = Moved(data, seed=3, mirrored=True)
    assert torch.cat([y for _, y in shown.chunks(4, [8, 1])]).tolist() == [8, 1] and len(shown) == 9


@pytest.mark.parametrize(
    ("inputs", "can"),
    [
        (torch.zeros(3, 1, 8, 8), True),
        (torch.zeros(3, 1, 6, 6), False),  # no pixel is a fourteenth of it
        (torch.zeros(3, 64), False),
        (torch.zeros(3, 2, 28), False),
        (torch.zeros(3, 12, dtype=torch.int64), False),
    ],
)
def test_what_is_no_image_stays_where_it_is(inputs: torch.Tensor, can: bool) -> None:
    assert movable(Arrays(inputs, torch.zeros(3))) is can
