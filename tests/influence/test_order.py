"""The batches of a seed are those of torch's own loader."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from worker.influence.order import loader_order


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("n", "steps"), [(12, 3), (13, 11), (5, 7)])
def test_the_order_is_that_of_torchs_loader(n: int, steps: int, drop_last: bool) -> None:
    generator = torch.Generator().manual_seed(9)
    data = TensorDataset(torch.arange(n))
    loader = DataLoader(data, batch_size=4, shuffle=True, drop_last=drop_last, generator=generator)
    seen = (batch.tolist() for _ in count() for [batch] in loader)
    order = loader_order(n, 4, steps, seed=9, drop_last=drop_last)
    assert [[row for row in rows if row >= 0] for rows in order.tolist()] == [
        next(seen) for _ in range(steps)
    ]


def test_a_set_smaller_than_a_dropped_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="3 samples give no batch of 4"):
        loader_order(3, 4, 10, seed=0, drop_last=True)


def test_a_batch_is_no_wider_than_the_data() -> None:
    assert loader_order(5, 2**40, 3, seed=0).shape == (3, 5)
    assert torch.equal(loader_order(5, 2**40, 3, seed=0), loader_order(5, 5, 3, seed=0))
