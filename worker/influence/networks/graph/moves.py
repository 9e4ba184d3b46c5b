"""What only puts entries elsewhere: chains of reshapes and transposes as one, in the fewest calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from worker.influence.networks.graph.registry import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """x of shape `given` ↦ x.reshape(apart).permute(order).reshape(shape).

    Axes of one entry are in `given` and `shape` alone; no two axes of `apart` that follow one another follow
    one another in `order`, so that moves alike are equal.
    """

    given: Shape
    apart: Shape
    order: Shape
    shape: Shape

    @classmethod
    def reshape(cls, given: Sequence[int], shape: Sequence[int]) -> Move:
        return _tidy(tuple(given), [(n,) for n in given], range(len(given)), tuple(shape))

    @classmethod
    def transpose(cls, given: Sequence[int], order: Sequence[int]) -> Move:
        return _tidy(tuple(given), [(n,) for n in given], order, tuple(given[i] for i in order))

    @cached_property
    def _calls(self) -> tuple[bool, bool, bool]:
        moved = tuple(self.apart[i] for i in self.order)
        return self.apart != self.given, len(self.order) > 1, moved != self.shape

    @cached_property
    def _turned(self) -> Shape | None:
        """The axes of `given` in another order, where that is all: a view, however x lies in memory."""
        cut = _common(self.given, self.apart)
        if cut is None or any(len(pieces) != 1 for pieces in cut[0]):
            return None
        axes = iter(range(len(self.given)))
        grouped = [[next(axes) for _ in pieces] for pieces in cut[1]]
        order = tuple(axis for i in self.order for axis in grouped[i])
        return order if tuple(self.given[axis] for axis in order) == self.shape else None

    @property
    def nothing(self) -> bool:
        return self.given == self.shape and len(self.order) <= 1

    def __call__(self, x: Tensor) -> Tensor:
        if self._turned is not None:
            return x.permute(self._turned)
        first, turned, last = self._calls
        if not turned:
            return x.reshape(self.shape)
        x = x.reshape(self.apart) if first else x
        x = x.permute(self.order)
        return x.reshape(self.shape) if last else x

    def then(self, after: Move) -> Move | None:
        """Both as one; None where their axes are cut at places that do not fit."""
        between = _common([self.apart[i] for i in self.order], after.apart)
        if between is None:
            return None
        mine, theirs = between
        pieces: list[Shape] = [()] * len(self.apart)
        for axis, cut in zip(self.order, mine, strict=True):
            pieces[axis] = cut
        numbers = iter(_numbers(pieces, self.order))
        grouped = [[next(numbers) for _ in cut] for cut in theirs]
        order = [number for axis in after.order for number in grouped[axis]]
        return _tidy(self.given, pieces, order, after.shape)

    def below(self, count: int) -> Move:
        """The same of each of `count` tensors that are stacked."""
        pieces = [(count,), *((n,) for n in self.apart)]
        order = [0, *(i + 1 for i in self.order)]
        return _tidy((count, *self.given), pieces, order, (count, *self.shape))

    def around_the_last(self, width: int) -> tuple[Move, Move] | None:
        """(first, later): what is done before and what can wait for something that makes `width` entries of
        each row along the last axis; `first` leaves the rows in the order they come in.

        None where no rows are left apart from the last axis.
        """
        width_before = self.shape[-1]
        rows = prod(self.shape[:-1])
        cut = _common([self.apart[i] for i in self.order], (rows, width_before))
        if cut is None or rows == 1 or width_before == 1:
            return None
        pieces: list[Shape] = [()] * len(self.apart)
        for axis, sizes in zip(self.order, cut[0], strict=True):
            pieces[axis] = sizes
        passed = _numbers(pieces, self.order)
        ahead, ends = passed[: len(cut[1][0])], passed[len(cut[1][0]) :]
        flat = [n for sizes in pieces for n in sizes]
        in_order = sorted(ahead)
        between = tuple(flat[i] for i in in_order)
        first = _tidy(self.given, pieces, [*in_order, *ends], (*between, width_before))
        made = (*between, width)
        later = [*(in_order.index(i) for i in ahead), len(in_order)]
        return first, _tidy(made, [(n,) for n in made], later, (*self.shape[:-1], width))


def _tidy(given: Shape, pieces: Sequence[Shape], order: Sequence[int], shape: Shape) -> Move:
    """The move of axes cut into pieces, which are numbered through: neighbours that stay so become one."""
    sizes = [n for cut in pieces for n in cut]
    counted = [i for i, n in enumerate(sizes) if n != 1]
    number = {i: k for k, i in enumerate(counted)}
    runs: list[list[int]] = []
    for i in (number[i] for i in order if i in number):
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    place = sorted(range(len(runs)), key=lambda k: runs[k])
    apart = tuple(prod(sizes[counted[i]] for i in runs[k]) for k in place)
    return Move(given, apart, tuple(place.index(k) for k in range(len(runs))), shape)


def _numbers(pieces: Sequence[Shape], order: Sequence[int]) -> list[int]:
    """The pieces' numbers, as the axes that were cut into them come in `order`."""
    starts = [sum(map(len, pieces[:axis])) for axis in range(len(pieces))]
    return [starts[axis] + i for axis in order for i in range(len(pieces[axis]))]


def _common(left: Sequence[int], right: Sequence[int]) -> tuple[list[Shape], list[Shape]] | None:
    """Both shapes of the same entries, each axis cut into pieces, so that the pieces are the same ones."""
    cuts: tuple[list[list[int]], list[list[int]]] = ([[] for _ in left], [[] for _ in right])
    i = j = 0
    rest = [*left, 1], [*right, 1]
    while i < len(left) and j < len(right):
        a, b = rest[0][i], rest[1][j]
        piece = min(a, b)
        if a % piece or b % piece:
            return None
        cuts[0][i].append(piece)
        cuts[1][j].append(piece)
        rest[0][i], rest[1][j] = a // piece, b // piece
        i, j = i + (a == piece), j + (b == piece)
    found, other = ([tuple(cut) for cut in cuts[k]] for k in (0, 1))
    return found, other
