"""From the canonical arrays of a data set to what a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Preprocessing:
    """(x · scale − mean) / std, where `inputs` is the kind the network takes.

    Without `scale`, uint8 is divided by 255 and other types are left as they are. `mean` and `std` hold one
    value a channel, or one for all, or none. Token ids pass through untouched.
    """

    inputs: Literal["features", "image", "tokens"]
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(
        self,
        batch: np.ndarray[Any, Any],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Prepares canonical samples.

        Args:
            batch: [B, …]. uint8 [B, H, W, C] with C of 1, 3 or 4 is images, and becomes [B, C, H, W] whatever
                the network; for an image network other types are [B, C, H, W], or [B, H, W] with one channel
                understood.
            dtype: of the result, but for tokens, which are int64.
            device: of the result.

        Returns:
            [B, …] of `dtype` on `device`.
        """
        # a copy, for torch refuses to see the read-only pages of a memory map
        x = torch.from_numpy(np.array(batch)).to(device)  # as it is: uint8 travels at a quarter of the bytes
        if self.inputs == "tokens":
            return x.long()
        byte = x.dtype == torch.uint8
        if byte and x.ndim == 4 and x.shape[3] in CHANNELS:
            x = x.permute(0, 3, 1, 2)
        elif self.inputs == "image" and x.ndim == 3:
            x = x[:, None]
        x = x.to(dtype).contiguous()
        if self.scale is not None:
            x = x * self.scale
        elif byte:
            x = x / 255
        if self.mean:
            x = x - self._per_channel(self.mean, x)
        return x / self._per_channel(self.std, x) if self.std else x

    @staticmethod
    def _per_channel(values: tuple[float, ...], x: Tensor) -> Tensor:
        """[C] → [1, C, 1, …], to broadcast over x [B, C, …]."""
        shape = (1, len(values)) + (1,) * (x.ndim - 2) if x.ndim > 1 else (len(values),)
        return torch.tensor(values, dtype=x.dtype, device=x.device).view(shape)
