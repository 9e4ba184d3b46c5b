"""The norms a convolutional network's config may name."""

from __future__ import annotations

from torch import nn


def norm_layer(norm: str, channels: int, groups: int) -> nn.Module:
    """A layer over [B, channels, H, W]: `batch` by running statistics, `group` by the sample's own, `none`
    nothing.

    Raises:
        ValueError: the norm is another.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(groups, channels)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"unknown norm {norm!r}")
