"""Types. All floating types are one here, that of the network's parameters: what was exported in half
precision is computed in float32."""

from __future__ import annotations

import torch

from worker.influence.networks.graph.registry import GraphError, Tensor, operator

FLOATING = {1, 10, 11, 16}  # ONNX's FLOAT, FLOAT16, DOUBLE, BFLOAT16
INTEGERS = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool}


@operator("Cast")
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up", floating: torch.dtype) -> Tensor:
    """`floating`: what the network computes in."""
    if to in FLOATING:
        return x if x.dtype == floating else x.to(floating)
    if to not in INTEGERS:
        raise GraphError(f"Cast to ONNX's type {to} is not supported")
    return x if x.dtype == INTEGERS[to] else x.to(INTEGERS[to])


@operator("CastLike", form=(1,))
def cast_like(x: Tensor, like: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return x if x.dtype == like.dtype else x.to(like.dtype)
