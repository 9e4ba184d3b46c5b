"""A dense reference, written without the engine: explicit gradients [N, P] and curvatures [P, P]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacrev, vmap

Tensor = torch.Tensor


def loss_of_one(loss: str, output: Tensor, target: Tensor) -> Tensor:
    """The loss of one sample, from its output [C], spelled out."""
    if loss == "cross_entropy":
        return output.logsumexp(0) - output.gather(0, target.reshape(1))[0]
    target = target.reshape(output.shape).to(output.dtype)
    if loss == "mse":
        return ((output - target) ** 2).mean()
    chance = torch.sigmoid(output)
    return -(target * chance.log() + (1 - target) * (1 - chance).log()).mean()


class Dense:
    """A network of a few parameters at θ [P], and everything there is to know of it on a data set."""

    def __init__(
        self,
        network: nn.Module,
        loss: str,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        x: Tensor,
        y: Tensor,
    ) -> None:
        self.shapes = {name: p.shape for name, p in params.items()}
        self.theta = torch.cat([p.flatten() for p in params.values()])
        self.x, self.y, self.loss = x, y, loss
        self.network, self.buffers = network.eval(), buffers

    def output(self, theta: Tensor, x: Tensor) -> Tensor:
        pieces = torch.split(theta, [shape.numel() for shape in self.shapes.values()])
        shaped = (piece.reshape(shape) for piece, shape in zip(pieces, self.shapes.values(), strict=True))
        params = dict(zip(self.shapes, shaped, strict=True))
        output: Tensor = functional_call(self.network, params | self.buffers, (x[None],))
        return output.reshape(-1)

    def one(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return loss_of_one(self.loss, self.output(theta, x), y)

    @cached_property
    def losses(self) -> Tensor:
        return torch.stack([self.one(self.theta, x, y) for x, y in zip(self.x, self.y, strict=True)])

    @cached_property
    def gradients(self) -> Tensor:  # [N, P]
        return torch.stack([grad(self.one)(self.theta, x, y) for x, y in zip(self.x, self.y, strict=True)])

    @cached_property
    def hessians(self) -> Tensor:  # [N, P, P]
        found: Tensor = vmap(hessian(self.one), (None, 0, 0))(self.theta, self.x, self.y)
        return found

    @cached_property
    def gauss_newton(self) -> Tensor:  # [P, P]
        total = torch.zeros(len(self.theta), len(self.theta), dtype=self.theta.dtype)
        for x, y in zip(self.x, self.y, strict=True):
            jacobian = jacrev(self.output)(self.theta, x)
            output = self.output(self.theta, x)
            total += jacobian.T @ hessian(lambda f, y=y: loss_of_one(self.loss, f, y))(output) @ jacobian
        return total / len(self.x)


def diff_in(
    train: Sequence[Dense],
    query_gradient: Tensor,
    rates: Sequence[Sequence[float]],
    train_size: int,
    *,
    clamp: bool,
    curvature: Callable[[Dense], Tensor] = lambda state: state.hessians.mean(0),
    ridge: float = 0.0,
    decay: float = 0.0,
) -> Tensor:
    """Contributions [m, N]: the adjoint recursion, one step and one sample at a time.

    harmful(z) -= (η_t/N)⟨G_z, w_{t+1}⟩, then w_t = (I - η_t H) w_{t+1}, each factor clamped if asked.
    """
    w = query_gradient
    rows: list[Tensor] = []
    for state, etas in zip(reversed(train), reversed(rates), strict=True):
        matrix, gradients = curvature(state), state.gradients
        matrix = matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype)
        row = torch.zeros(len(state.x), dtype=torch.float64)
        for eta in reversed(etas):
            for z in range(len(row)):
                row[z] -= eta / train_size * (gradients[z] @ w)
            if clamp:
                values, vectors = torch.linalg.eigh(matrix)
                shrunk = (1 - eta * decay - eta * values).clamp(0, 1 - eta * decay)
                w = vectors @ (shrunk * (vectors.T @ w))
            else:
                w = (1 - eta * decay) * w - eta * matrix @ w
        rows.insert(0, row)
    return torch.stack(rows)


def eq9(
    train: Sequence[Dense],
    query_gradients: Sequence[Tensor] | None,
    steps: Sequence[int],
    rates: Sequence[float],
    train_size: int,
    batches: Sequence[Sequence[int]],
) -> Tensor:
    """Contributions [m, N] by the naive loop over samples and batch members; no query gradients: V = {z}."""
    rows: list[Tensor] = []
    for k, state in enumerate(train):
        gradients, hessians, batch = state.gradients, state.hessians, batches[k]
        a = -steps[k] * rates[k] ** 2 / (train_size * len(train))
        row = []
        for z in range(len(state.x)):
            v = gradients[z] if query_gradients is None else query_gradients[k]
            total = 0.0
            for b in batch:
                total += float(v @ (hessians[b] @ gradients[z] + hessians[z] @ gradients[b])) / len(batch)
            row.append(a * total)
        rows.append(torch.tensor(row, dtype=torch.float64))
    return torch.stack(rows)
