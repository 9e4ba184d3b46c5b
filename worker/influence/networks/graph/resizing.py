"""Resize, as far as torch's interpolation goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.nn import functional as nnf

from worker.influence.networks.graph.registry import GraphError, Tensor, operator

NEAREST = {
    ("asymmetric", "floor"): "nearest",
    ("half_pixel", "round_prefer_ceil"): "nearest-exact",
    ("half_pixel", "round_prefer_floor"): "nearest-exact",  # they differ where two are as near
}
LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@operator("Resize", host=(2, 3))
def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Of the axes behind batch and channels; a size is the input's times its scale, rounded down."""
    n, given = x.dim() - 2, sizes or scales
    if not given:
        raise GraphError("Resize needs scales or sizes")
    ahead = [a == b for a, b in zip(given[:-n], x.shape if sizes else (1.0, 1.0), strict=False)]
    last = axes is None or [a % x.dim() for a in axes] == list(range(x.dim() - len(axes), x.dim()))
    if n < 1 or len(given) < n or not all(ahead) or not last:
        raise GraphError("Resize of other axes than those behind batch and channels is not supported")
    if keep_aspect_ratio_policy != "stretch" or (exclude_outside and not antialias):
        raise GraphError("Resize by another policy than stretch, or with exclude_outside, is not supported")
    target: dict[str, Any] = (
        {"size": [int(k) for k in given[-n:]]} if sizes else {"scale_factor": list(given[-n:])}
    )
    if mode == "nearest":
        how = (coordinate_transformation_mode, nearest_mode)
        if how not in NEAREST:
            raise GraphError(f"Resize to the nearest by {how[0]} and {how[1]} is not supported")
        return nnf.interpolate(x, **target, mode=NEAREST[how])
    if coordinate_transformation_mode not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise GraphError(f"Resize with {coordinate_transformation_mode} is not supported")
    if mode == "cubic" and (n != 2 or abs(cubic_coeff_a + 0.75) > 1e-6):
        raise GraphError("Resize cubic is supported of images, with cubic_coeff_a -0.75")
    return nnf.interpolate(
        x,
        **target,
        mode="bicubic" if mode == "cubic" else LINEAR[x.dim()],
        align_corners=coordinate_transformation_mode == "align_corners",
        antialias=bool(antialias),
    )
