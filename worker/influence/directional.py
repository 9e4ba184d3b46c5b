"""Derivatives in directions that all samples share: no gradient of a single sample is ever formed here.

⟨u, G_z⟩ = Dℓ_z[u] and ⟨u, H_z g⟩ = D²ℓ_z[u, g], so that one forward-mode pass over a chunk answers for each
of its samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast
from weakref import WeakSet

import torch
from torch import nn
from torch.func import grad, jvp, vjp

from worker.influence import dual
from worker.influence.memory import by_pixel, over_chunks
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Data
from worker.influence.vectors import combine, norm

Differentiation = Literal["exact", "finite_difference"]
Rows = Sequence[int] | range | None
T = TypeVar("T", torch.Tensor, Tensors)
Jvp = Callable[
    [Callable[..., Any], Any, Any], tuple[Any, Any, Any]
]  # (f, Df, aux) of f that returns (f, aux)

_WITHOUT_RULES: WeakSet[nn.Module] = WeakSet()  # networks that dual numbers can't go through

# The first forward-mode derivative of a process loads a module of torch's that uses what torch deprecates.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    jvp(torch.exp, (torch.zeros(1),), (torch.zeros(1),))


class Directional(NamedTuple):
    """What one pass over a chunk tells of its samples."""

    losses: torch.Tensor  # [B]
    predictions: torch.Tensor  # [B]
    derivatives: torch.Tensor  # [B], in the losses' dtype


def derivative(
    function: Callable[[Tensors], T],
    params: Tensors,
    direction: Tensors,
    how: Differentiation = "exact",
    epsilon: float = 1e-3,
) -> T:
    """Df(θ)[u], exact by forward-mode differentiation, or by a central difference.

    The difference is (f(θ + δu) - f(θ - δu)) / 2δ with δ = ε/‖u‖, so that the step in parameter space has
    length ε whatever the length of u. Where f has kinks (ReLU, max-pooling) no ε is safe.
    """
    if how == "exact":
        exact: T = jvp(function, (params,), (direction,))[1]
        return exact
    delta = epsilon / norm(direction).clamp(min=1e-30)
    ahead, behind = function(combine(params, delta, direction)), function(combine(params, -delta, direction))
    if isinstance(ahead, torch.Tensor):
        return (ahead - behind) / (2 * delta)
    return {name: (part - behind[name]) / (2 * delta) for name, part in ahead.items()}


def gradient(task: Task, checkpoint: Checkpoint, data: Data, *, chunk: int, rows: Rows = None) -> Tensors:
    """∇L(θ_k), L the mean loss over `rows` of `data` (None: all)."""

    def part(inputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
        return _gradient(task, checkpoint, inputs, targets)(checkpoint.params)

    return _mean(part, data, chunk, rows, task.group)


def hvp(
    task: Task,
    checkpoint: Checkpoint,
    data: Data,
    vector: Tensors,
    *,
    chunk: int,
    rows: Rows = None,
    how: Differentiation = "exact",
    epsilon: float = 1e-3,
) -> Tensors:
    """H·u, H = ∇²L(θ_k), L the mean loss over `rows` of `data` (None: all): D(∇L)[u]."""

    def part(inputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
        function = _gradient(task, checkpoint, inputs, targets)
        return derivative(function, checkpoint.params, vector, how, epsilon)

    return _mean(part, data, chunk, rows, task.group)


def ggn_vp(
    task: Task,
    checkpoint: Checkpoint,
    data: Data,
    vector: Tensors,
    *,
    chunk: int,
    rows: Rows = None,
    how: Differentiation = "exact",
    epsilon: float = 1e-3,
) -> Tensors:
    """Gauss-Newton: (1/|rows|) Σ_z J_zᵀ (∇²_f ℓ_z) J_z u, with J_z the Jacobian of the outputs f."""

    def part(inputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
        def network(params: Tensors) -> torch.Tensor:
            return task.outputs(params, checkpoint.buffers, inputs, targets)

        outputs, pull_back = vjp(network, checkpoint.params)[:2]
        change = derivative(network, checkpoint.params, vector, how, epsilon)  # J u, [B, …]
        slope = grad(lambda f: task.losses_of(f, targets).sum())
        pulled: Tensors = pull_back(jvp(slope, (outputs,), (change,))[1])[0]
        return pulled

    return _mean(part, data, chunk, rows, task.group)


def directional_derivative(
    task: Task, checkpoint: Checkpoint, inputs: torch.Tensor, targets: torch.Tensor, direction: Tensors
) -> Directional:
    """Dℓ_z(θ_k)[u] = ⟨G_z, u⟩ for each sample z of a chunk, in one forward-mode pass."""
    at, held = checkpoint.params, checkpoint.buffers
    return _forward(task, inputs, lambda jvp, x: _along(jvp, task, at, held, x, targets, direction))


def mixed(
    task: Task,
    checkpoint: Checkpoint,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    direction: Tensors,
    along: Tensors,
    drift: Tensors | None = None,
    *,
    how: Differentiation = "exact",
    epsilon: float = 1e-3,
) -> Directional:
    """D²ℓ_z(θ_k)[u, g] + Dℓ_z(θ_k)[r] for each sample z, with u `direction`, g `along`, r `drift` (None: 0).

    That is the derivative of Dℓ_z(θ)[u] when θ moves along g and u along r: one nested forward-mode pass.
    """
    theta = checkpoint.params

    def nested(jvp: Jvp, x: torch.Tensor) -> Directional:
        def first(params: Tensors, vector: Tensors = direction) -> tuple[torch.Tensor, Directional]:
            found = _along(jvp, task, params, checkpoint.buffers, x, targets, vector)
            return found.derivatives, found

        at, tangents = ((theta,), (along,)) if drift is None else ((theta, direction), (along, drift))
        _, bracket, found = jvp(first, at, tangents)
        return Directional(dual.primal(found.losses), found.predictions, bracket)

    if how == "exact":
        return _forward(task, inputs, nested)

    def first(params: Tensors, vector: Tensors) -> Directional:
        moved = Checkpoint(checkpoint.step, checkpoint.learning_rates, params, checkpoint.buffers)
        return directional_derivative(task, moved, inputs, targets, vector)

    bracket = derivative(lambda params: first(params, direction).derivatives, theta, along, how, epsilon)
    found = first(theta, direction if drift is None else drift)
    drifting = 0 if drift is None else found.derivatives
    return Directional(found.losses, found.predictions, bracket + drifting)


def _along(
    jvp: Jvp,
    task: Task,
    params: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    direction: Tensors,
) -> Directional:
    """Dℓ_z(θ)[u] for each sample z by `jvp`; θ and u may themselves be moving."""

    def shares(params: Tensors) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        outputs = task.outputs(params, buffers, inputs, targets)
        losses, share = task.losses_and_shares(outputs, targets)
        return share, (losses, outputs)

    _, tangent, (losses, outputs) = jvp(shares, (params,), (direction,))
    return Directional(dual.primal(losses), task.predictions(dual.primal(outputs), targets), tangent)


def _forward(
    task: Task, inputs: torch.Tensor, compute: Callable[[Jvp, torch.Tensor], Directional]
) -> Directional:
    """`compute` by dual numbers, or by torch's forward mode for a network they lack a rule for.

    Only the rules are known to take images by pixel: torch's own group_norm does not, in forward mode.
    """
    if task.network not in _WITHOUT_RULES:
        try:
            with torch.no_grad():
                return compute(dual.jvp, by_pixel(inputs))
        except dual.NoRuleError:
            _WITHOUT_RULES.add(task.network)
    return compute(_torch_jvp, inputs)


def _torch_jvp(function: Callable[..., Any], at: Any, tangents: Any) -> tuple[Any, Any, Any]:
    """(f, Df, aux) of a function that returns (f, aux)."""
    value, change, aux = cast(tuple[Any, Any, Any], jvp(function, at, tangents, has_aux=True))
    return value, change, aux


def _gradient(
    task: Task, checkpoint: Checkpoint, inputs: torch.Tensor, targets: torch.Tensor
) -> Callable[[Tensors], Tensors]:
    """θ ↦ ∇ Σ_z ℓ_z(θ) over a chunk."""
    function: Callable[[Tensors], Tensors] = grad(
        lambda params: task.losses(params, checkpoint.buffers, inputs, targets).sum()
    )
    return function


def _mean(
    function: Callable[[torch.Tensor, torch.Tensor], Tensors], data: Data, chunk: int, rows: Rows, group: int
) -> Tensors:
    """The sums that `function` gives of each chunk, added up and divided by the number of samples."""
    count = len(data) if rows is None else len(rows)
    if count == 0:
        raise ValueError("A mean over no samples")
    total: Tensors = {}
    for part in over_chunks(function, data, chunk, rows, group):
        total = combine(total, 1.0, part) if total else part
    return {name: tensor / count for name, tensor in total.items()}
