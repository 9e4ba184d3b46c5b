"""Moves of entries as one, against the calls they stand for; attention as it is put together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as nnf

from benchmarks.generality.exporting import through_graph
from worker.influence.networks.graph.moves import Move

Tensor = torch.Tensor
SHAPES = [(2, 3, 4), (4, 6), (24,), (1, 24), (3, 2, 2, 2), (6, 1, 4), (2, 12), (8, 3), (2, 2, 6, 1)]


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Move], Tensor]:
    """Moves that follow one another, and what the calls of torch make of 0, 1, …, 23."""
    x = torch.arange(24.0).reshape(draw(st.sampled_from(SHAPES)))
    made = [Move.reshape(x.shape, x.shape)]
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            shape = draw(st.sampled_from(SHAPES))
            made.append(Move.reshape(x.shape, shape))
            x = x.reshape(shape)
        else:
            order = draw(st.permutations(range(x.dim())))
            made.append(Move.transpose(x.shape, order))
            x = x.permute(order)
    return made, x


@given(chains())
def test_moves_as_one_do_what_they_do_one_by_one(chain: tuple[list[Move], Tensor]) -> None:
    moves, expected = chain
    x = torch.arange(24.0).reshape(moves[0].given)
    joined = moves[0]
    for move in moves[1:]:
        further = joined.then(move)
        if further is None:  # axes are cut where they do not fit: go on from here
            x, further = joined(x), move
        joined = further
    assert torch.equal(joined(x), expected)
    if joined.nothing:
        assert torch.equal(x, expected)
    stacked = joined.below(2)(torch.stack([x, x + 1]))
    assert torch.equal(stacked, torch.stack([joined(x), joined(x + 1)]))


@given(chains())
def test_a_product_may_come_before_the_rows_are_moved(chain: tuple[list[Move], Tensor]) -> None:
    for move in chain[0]:
        halves = move.around_the_last(5)
        if halves is None:
            continue
        x = torch.arange(24.0).reshape(move.given)
        weight = torch.arange(5.0 * move.shape[-1]).reshape(5, -1)
        first, later = halves
        assert torch.equal(later(nnf.linear(first(x), weight)), nnf.linear(move(x), weight))


def test_back_and_forth_is_nothing() -> None:
    there, back = Move.transpose((2, 3, 4), (2, 0, 1)), Move.transpose((4, 2, 3), (1, 2, 0))
    both = there.then(back)
    assert both is not None and both.nothing
    assert not there.nothing
    assert Move.reshape((4, 6), (24,)).then(Move.reshape((24,), (8, 3))) is not None
    turned = Move.transpose((4, 6), (1, 0)).then(Move.reshape((6, 4), (8, 3)))
    assert turned is not None
    assert turned.then(Move.transpose((8, 3), (1, 0))) is None  # 6 and 8 have no cuts in common


def test_axes_in_another_order_are_a_view_however_they_lie_in_memory() -> None:
    x = torch.randn(2, 3, 4, 5).permute(1, 3, 0, 2)
    move = Move.transpose(x.shape, (1, 2, 0, 3))
    assert torch.equal(move(x), x.permute(1, 2, 0, 3))
    assert move(x).data_ptr() == x.data_ptr()


class Attention(nn.Module):
    """Attention as people write it: `way` tells how queries, keys and values are cut out."""

    def __init__(self, way: str, mask: str = "") -> None:
        super().__init__()
        self.all, self.out, self.way, self.mask = nn.Linear(12, 36), nn.Linear(12, 12), way, mask
        self.bias = nn.Parameter(torch.randn(3, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        if self.way == "split":
            parts = [part.view(batch, length, 3, 4).transpose(1, 2) for part in self.all(x).split(dim, 2)]
        elif self.way == "chunk by head":
            parts = list(self.all(x).view(batch, length, 3, 12).transpose(1, 2).chunk(3, dim=-1))
        else:
            parts = list(self.all(x).reshape(batch, length, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0))
        q, k, v = parts
        s = q @ k.transpose(-2, -1) / 2 if self.way == "divided" else (0.5 * q) @ k.transpose(-2, -1)
        if self.mask == "causal":
            s = s + torch.full((length, length), float("-inf")).triu(1)
        elif self.mask == "bias":
            s = self.bias + s
        y = torch.softmax(s, -1) @ v
        out: Tensor = self.out(y.transpose(1, 2).reshape(batch, length, dim))
        return out


@pytest.mark.parametrize(
    ("way", "mask"), [("split", "causal"), ("chunk by head", ""), ("unbound", "bias"), ("divided", "causal")]
)
def test_attention_is_put_together_again(way: str, mask: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Attention(way, mask)
    x = torch.randn(4, 5, 12)
    graph = through_graph(network, (x,), tmp_path)
    called = graph.plan_of((x,)).operators
    assert called == ["Linear", "Move", "Unbind", "Attention", "Move", "Linear"]
    torch.testing.assert_close(graph(x), network(x), atol=1e-6, rtol=1e-5)


class Shared(nn.Module):
    """What looks like attention, but is asked for otherwise, too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chances = torch.softmax(x @ x.transpose(-2, -1), -1)
        first, second = x[:, :2], x[:, 2:4]
        return chances @ x, chances, first * second.transpose(1, 2).reshape(first.shape)


def test_what_is_asked_for_besides_stays(tmp_path: Path) -> None:
    x = torch.randn(3, 5, 6)
    network = Shared()
    graph = through_graph(network, (x,), tmp_path)
    for found, expected in zip(graph(x), network(x), strict=True):
        torch.testing.assert_close(found, expected)
