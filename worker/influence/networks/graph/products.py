"""Matrix products."""

from __future__ import annotations

import torch
from torch.nn import functional as nnf

from worker.influence.networks.graph.registry import Tensor, operator


@operator("MatMul")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


@operator("Gemm")
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """α A B + β C; nn.Linear comes as A Bᵀ + c."""
    a = a.transpose(0, 1) if transA else a
    if transB and alpha == 1.0 and (c is None or (beta == 1.0 and c.dim() == 1)):
        return nnf.linear(a, b, c)
    product = torch.matmul(a, b.transpose(0, 1) if transB else b)
    product = product if alpha == 1.0 else alpha * product
    return product if c is None else product + (c if beta == 1.0 else beta * c)


@operator("Einsum")
def einsum(*inputs: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *inputs)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What a product with a transposed weight, and the sum with a bias, are put together to."""
    return nnf.linear(x, weight, bias)
