"""How large a chunk is, and what becomes of one that is too large."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from worker.influence.errors import SampleTooLargeError
from worker.influence.memory import bytes_per_sample, chunk_size, halving
from worker.influence.task import Task
from worker.influence.trajectory import Checkpoint

Rows = Sequence[int] | range


def allocating(limit: int, lengths: list[int]) -> Callable[[Rows], list[int]]:
    """A function of rows that asks for more memory than there is when they are more than `limit`."""

    def function(part: Rows) -> list[int]:
        lengths.append(len(part))
        torch.empty(2**58 if len(part) > limit else 1)
        return list(part)

    return function


def test_out_of_memory_halves_the_chunk_for_good_and_loses_no_row() -> None:
    lengths: list[int] = []
    parts = list(halving(allocating(3, lengths), range(5, 20), 10))
    assert [row for part in parts for row in part] == list(range(5, 20))
    assert lengths == [10, 5, 2, 2, 2, 2, 2, 2, 2, 1]


def test_a_sample_that_does_not_fit_alone_is_told() -> None:
    with pytest.raises(SampleTooLargeError, match="one sample"):
        list(halving(allocating(0, []), range(4), 4))


def test_other_errors_pass_through() -> None:
    def function(part: Rows) -> torch.Tensor:
        return torch.ones(2) @ torch.ones(len(part))

    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        list(halving(function, range(3), 3))


def network(width: int) -> tuple[Task, Checkpoint]:
    layers = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, 3))
    params = {name: p.detach() for name, p in layers.named_parameters()}
    return Task(layers, "cross_entropy"), Checkpoint(1, (0.1,), params, {})


def test_a_chunk_fits_the_budget_and_the_cap() -> None:
    example = torch.ones(1, 4), torch.zeros(1, dtype=torch.int64)
    each = bytes_per_sample(*network(64), *example)
    assert each > 2 * 64 * 4  # what a GELU and the layer after it keep, at least
    assert chunk_size(*network(64), *example, budget_bytes=10 * each) == 10
    assert chunk_size(*network(64), *example, budget_bytes=10**12) == 256
    assert chunk_size(*network(64), *example, budget_bytes=10**12, most=32) == 32
    assert chunk_size(*network(64), *example, budget_bytes=1) == 1


def test_wider_networks_take_more_and_weights_do_not_count() -> None:
    example = torch.ones(1, 4), torch.zeros(1, dtype=torch.int64)
    narrow, wide = (bytes_per_sample(*network(width), *example) for width in (100, 1000))
    assert 5 < wide / narrow < 11
