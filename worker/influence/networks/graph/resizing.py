"""Resize, as far as torch's interpolation goes."""

from __future__ import annotations

from collections.abc import Sequence

from torch.nn import functional as nnf

from worker.influence.networks.graph.registry import GraphError, Tensor, operator

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
    """Of the axes behind batch and channels."""
    n = x.dim() - 2
    if sizes:
        wanted, unchanged = (
            [float(k) for k in sizes],
            [a == b for a, b in zip(sizes[:-n], x.shape[:-n], strict=False)],
        )
    elif scales:
        wanted, unchanged = list(scales), [scale == 1 for scale in scales[:-n]]
    else:
        raise GraphError("Resize needs scales or sizes")
    if axes is not None and [a % x.dim() for a in axes] != list(range(x.dim()))[-len(axes) :]:
        raise GraphError("Resize of other axes than the last is not supported")
    if n < 1 or not all(unchanged) or exclude_outside or keep_aspect_ratio_policy != "stretch":
        raise GraphError("Resize of batch or channels, or by another policy than stretch, is not supported")
    size = (
        [int(k) for k in wanted[-n:]]
        if sizes
        else [int(m * s) for m, s in zip(x.shape[2:], wanted[-n:], strict=True)]
    )
    if mode == "nearest":
        if (coordinate_transformation_mode, nearest_mode) == ("asymmetric", "floor"):
            return nnf.interpolate(x, size, mode="nearest")
        if coordinate_transformation_mode == "half_pixel" and nearest_mode.startswith("round_prefer"):
            return nnf.interpolate(x, size, mode="nearest-exact")
        raise GraphError(f"Resize nearest, {coordinate_transformation_mode}, {nearest_mode} is not supported")
    if coordinate_transformation_mode not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise GraphError(f"Resize with {coordinate_transformation_mode} is not supported")
    if mode == "cubic" and (n != 2 or abs(cubic_coeff_a + 0.75) > 1e-6):
        raise GraphError("Resize cubic is supported of images, with cubic_coeff_a -0.75")
    corners = coordinate_transformation_mode == "align_corners"
    how = "bicubic" if mode == "cubic" else LINEAR[x.dim()]
    return nnf.interpolate(x, size, mode=how, align_corners=corners, antialias=bool(antialias))
