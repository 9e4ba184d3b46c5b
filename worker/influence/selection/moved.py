"""Images that are moved a little each time they are read, so that a network cannot learn them by heart.

Each goes by up to a fourteenth of its side up or down and left or right, drawn anew for every reading; what
comes in from beyond the edge is the edge's pixel again, which means the same whatever the preprocessing made
of black.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from worker.influence.trajectory import Data

FARTHEST = 1 / 14  # of a side: 2 of 28 pixels


def movable(data: Data) -> bool:
    """Whether the inputs are images [C, H, W] of sides that a fourteenth is a pixel of."""
    inputs, _ = next(iter(data.chunks(1, [0])))
    return inputs.dim() == 4 and inputs.is_floating_point() and max(map(_farthest, inputs.shape[2:])) > 0


class Moved:
    """The data, its images moved.

    Args:
        seed: of where to. The same readings in the same order give the same bits.
    """

    def __init__(self, data: Data, seed: int) -> None:
        self._data, self._generator = data, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._data)

    def chunks(
        self, size: int, rows: Sequence[int] | range | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(inputs [B, C, H, W], targets [B, …]) of `rows` (None: all), in order, `size` samples at a time."""
        for inputs, targets in self._data.chunks(size, rows):
            yield moved(inputs, self._generator), targets


def moved(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each of the images [B, C, H, W] by a draw of its own."""
    down, right = (_places(len(images), side, generator).to(images.device) for side in images.shape[2:])
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return images[each, :, down[:, :, None], right[:, None, :]].movedim(-1, 1)


def _places(count: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Where each pixel along a side comes from, int64 [count, side]."""
    far = _farthest(side)
    by = torch.randint(-far, far + 1, (count, 1), generator=generator)
    return (torch.arange(side) + by).clamp(0, side - 1)


def _farthest(side: int) -> int:
    return round(side * FARTHEST)
