"""Activations, softmax among them; dropout is none, since networks run in evaluation mode."""

from __future__ import annotations

import torch
from torch.nn import functional as nnf

from worker.influence.networks.graph.registry import GraphError, Tensor, operator


@operator("Relu")
def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


@operator("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return nnf.leaky_relu(x, alpha)


@operator("PRelu")
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """The slope may differ by entry."""
    return torch.where(x > 0, x, x * slope)


@operator("ThresholdedRelu")
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return nnf.threshold(x, alpha, 0.0)


@operator("Elu")
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return nnf.elu(x, alpha)


@operator("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return nnf.celu(x, alpha)


@operator("Selu")
def selu(
    x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Tensor:
    return gamma * nnf.elu(x, alpha)


@operator("Gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return nnf.gelu(x, approximate=approximate)


@operator("Sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


@operator("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """min(max(αx + β, 0), 1); torch's own has no second derivative in forward mode (torch 2.13)."""
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


@operator("HardSwish")
def hard_swish(x: Tensor) -> Tensor:
    return nnf.hardswish(x)


@operator("Swish")
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return nnf.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@operator("Mish")
def mish(x: Tensor) -> Tensor:
    return nnf.mish(x)


@operator("Tanh")
def tanh(x: Tensor) -> Tensor:
    return torch.tanh(x)


@operator("Softplus")
def softplus(x: Tensor) -> Tensor:
    return nnf.softplus(x)


@operator("Softsign")
def softsign(x: Tensor) -> Tensor:
    return nnf.softsign(x)


@operator("Softmax")
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    if not -x.dim() <= axis < x.dim():  # the meta device, on which shapes are found, takes any
        raise IndexError(f"there is no axis {axis} of {x.dim()}")
    return torch.softmax(x, axis)


@operator("LogSoftmax")
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.log_softmax(x, axis)


@operator("Dropout", host=(1, 2))
def dropout(x: Tensor, ratio: float = 0.5, training: bool = False, *, seed: int = 0) -> Tensor:
    """Nothing: networks are exported in evaluation mode."""
    if training:
        raise GraphError("Dropout was exported in training mode: call model.eval() before the export")
    return x
