"""Images that are moved a little each time they are read, so that a network cannot learn them by heart.

Each goes by up to a fourteenth of its side up or down and left or right, drawn anew for every reading; what
comes in from beyond the edge is the edge's pixel again, which means the same whatever the preprocessing made
of black. Where left and right mean nothing, every other one is mirrored. Whether they do, a network tells
that was trained on none that was: it knows mirrored queries as well as the others, or not (a mirrored
digit is another one, or none).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from worker.influence.memory import over_chunks
from worker.influence.task import Task
from worker.influence.trajectory import Checkpoint, Data

FARTHEST = 1 / 14  # of a side: 2 of 28 pixels
AS_WELL = 0.9  # of the queries told right as they are: so many mirrored ones, and left and right mean nothing


def movable(data: Data) -> bool:
    """Whether the inputs are images [C, H, W] of sides that a fourteenth is a pixel of."""
    inputs, _ = next(iter(data.chunks(1, [0])))
    return inputs.dim() == 4 and inputs.is_floating_point() and max(map(_farthest, inputs.shape[2:])) > 0


def mirrorable(task: Task, state: Checkpoint, queries: Data, labels: torch.Tensor, chunk: int) -> bool:
    """Whether the network, which was trained on none of them, knows images as well when they are mirrored.

    Args:
        queries: of every class, or nobody knows.
        labels: of the training set.
    """

    @torch.no_grad()
    def told(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        both = [task.outputs(state.params, state.buffers, x, targets) for x in (inputs, inputs.flip(-1))]
        said = [task.predictions(outputs, targets) for outputs in both]
        return torch.stack([one.double() for one in (targets.reshape(-1), *said)], 1).cpu()

    given, as_they_are, mirrored = torch.cat(list(over_chunks(told, queries, chunk))).T
    known = given[as_they_are == given]
    if not torch.isin(torch.unique(labels).double(), known).all():
        return False
    return int((mirrored == given).sum()) >= AS_WELL * len(known)


class Moved:
    """The data, its images moved.

    Args:
        seed: of where to. The same readings in the same order give the same bits.
        mirrored: whether every other image is, by chance.
    """

    def __init__(self, data: Data, seed: int, *, mirrored: bool) -> None:
        self._data, self._generator = data, torch.Generator().manual_seed(seed)
        self._mirrored = mirrored

    def __len__(self) -> int:
        return len(self._data)

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs [B, C, H, W], targets [B, …]) of `rows` (None: all), in order, `size` samples at a time."""
        for inputs, targets in self._data.chunks(size, rows):
            yield moved(inputs, self._generator, mirrored=self._mirrored), targets


def moved(images: torch.Tensor, generator: torch.Generator, *, mirrored: bool) -> torch.Tensor:
    """Each of the images [B, C, H, W] by a draw of its own."""
    down, right = (_places(len(images), side, generator) for side in images.shape[2:])
    if mirrored:
        turned = torch.rand(len(images), 1, generator=generator) < 0.5
        right = torch.where(turned, right.flip(1), right)
    rows, columns = down.to(images.device), right.to(images.device)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return images[each, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _places(count: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Where each pixel along a side comes from, int64 [count, side]."""
    far = _farthest(side)
    by = torch.randint(-far, far + 1, (count, 1), generator=generator)
    return (torch.arange(side) + by).clamp(0, side - 1)


def _farthest(side: int) -> int:
    return round(side * FARTHEST)
