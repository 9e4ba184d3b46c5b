"""Images moved a little each time they are read."""

from __future__ import annotations

import pytest
import torch

from worker.influence.selection.moved import Moved, movable, moved
from worker.influence.trajectory import Arrays


def images(count: int = 200, side: int = 28) -> torch.Tensor:
    """Each pixel tells where it is: row and column are its two channels."""
    places = torch.arange(side, dtype=torch.float32)
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([rows, columns]).expand(count, 2, side, side)


def test_each_goes_its_own_way_and_the_edge_comes_in() -> None:
    found = moved(images(), torch.Generator().manual_seed(0))
    assert found.shape == (200, 2, 28, 28)
    by = found[:, :, 14, 14] - 14
    assert set(by.flatten().tolist()) == {-2, -1, 0, 1, 2}
    assert len({tuple(one) for one in by.tolist()}) == 25
    rows = (torch.arange(28) + by[:, :1]).clamp(0, 27)
    columns = (torch.arange(28) + by[:, 1:]).clamp(0, 27)
    assert torch.equal(found[:, 0], rows[:, :, None].expand(200, 28, 28))
    assert torch.equal(found[:, 1], columns[:, None, :].expand(200, 28, 28))


def test_the_same_readings_are_the_same_and_the_next_one_is_another() -> None:
    data = Arrays(images(9), torch.arange(9))

    def read(times: int) -> list[torch.Tensor]:
        shown = Moved(data, seed=3)
        return [torch.cat([x for x, _ in shown.chunks(4, [8, 1, 5, 0, 2])]) for _ in range(times)]

    first, second = read(2)
    assert torch.equal(first, read(1)[0]) and not torch.equal(first, second)
    shown = Moved(data, seed=3)
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
