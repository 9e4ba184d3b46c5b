"""Training: one optimizer step, and the steps of a run from any of its states on.

Whoever trains, replays or trains again steps here, so that one state, batch and rate give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from worker.influence.errors import DivergedError
from worker.influence.order import UNUSED
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Data, Schedule

OVERFLOW = "without overflow"  # torch's words for a number that the tensor's dtype can't hold


@dataclass(frozen=True)
class State:
    """θ_t before step t, with all that was trained, and what the optimizer carries (`Checkpoint.state`)."""

    params: Tensors
    memory: dict[str, Tensors]


class Step(NamedTuple):
    """What a step left: θ_{t+1}, and the mean loss of its batch at θ_t, a tensor on the data's device."""

    state: State
    loss: torch.Tensor


def carries(schedule: Schedule) -> tuple[str, ...]:
    """What the run's optimizer carries from step to step, by torch's names."""
    if schedule.optimizer != "sgd":
        return ("exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if schedule.momentum else ()


def rows_of(order: torch.Tensor, step: int) -> list[int]:
    """Rows of the training set in the batch of `step`; order: int64 [T, B], -1 where a batch is shorter."""
    rows: list[int] = [row for row in order[step].tolist() if row != UNUSED]
    return rows


def take_step(
    task: Task,
    schedule: Schedule,
    state: State,
    held: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    step: int,
) -> Step:
    """θ_{t+1} from θ_t by torch's own optimizer, on the mean loss of one batch.

    Args:
        state: before step t; nothing is carried into step 0. It stays as it is.
        held: what the network has beside what is trained.
        inputs [B, …], targets [B, …].
        step: t, counted from 0; its rate is the schedule's.

    Raises:
        DivergedError: a factor of the step is beyond the numbers' range.
        ValueError: SGD with decoupled weight decay, which torch has not.
    """
    leaves = {name: t.detach().clone().requires_grad_() for name, t in state.params.items()}
    with torch.enable_grad():
        outputs = task.of_batch(len(inputs)).call({**leaves, **held}, inputs, targets)
        loss = task.losses_of(outputs, targets).mean()
        # a tensor that the loss does not ask for has none, and torch's optimizers pass it by
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    optimizer = optimizer_of(schedule, list(leaves.values()), schedule.rate(step))
    for name, leaf in leaves.items():
        if state.memory:
            optimizer.state[leaf] = {kind: part[name].clone() for kind, part in state.memory.items()}
            if schedule.optimizer != "sgd":
                optimizer.state[leaf]["step"] = torch.tensor(float(step))
    for leaf, gradient in zip(leaves.values(), gradients, strict=True):
        leaf.grad = gradient
    try:
        optimizer.step()
    except RuntimeError as error:
        if OVERFLOW not in str(error):
            raise
        raise DivergedError(step + 1) from error
    memory = {
        kind: {
            name: optimizer.state[leaf].get(kind, torch.zeros_like(leaf.detach()))
            for name, leaf in leaves.items()
        }
        for kind in carries(schedule)
    }
    return Step(State({name: leaf.detach() for name, leaf in leaves.items()}, memory), loss.detach())


def steps(
    task: Task,
    schedule: Schedule,
    order: torch.Tensor,
    train: Data,
    state: State,
    held: Tensors,
    start: int,
    stop: int,
) -> Iterator[Step]:
    """The steps `start` … `stop` - 1, each from the state that the one before left, each batch read whole.

    Args:
        order: rows of each step's batch, int64 [T, B], -1 where a batch is shorter.
        state: before step `start`.
    """
    for step in range(start, stop):
        rows = rows_of(order, step)
        [(inputs, targets)] = train.chunks(len(rows), rows)
        done = take_step(task, schedule, state, held, inputs, targets, step)
        state = done.state
        yield done


def ensure_trained(losses: torch.Tensor, state: State, start: int) -> None:
    """Raises DivergedError with the first step whose loss is NaN or infinite, or whose weights then are.

    Args:
        losses: of the batches of step `start` and those after it, [S].
        state: after the last of them.
    """
    bad = ~torch.isfinite(losses)
    if bad.any():
        raise DivergedError(start + int(bad.nonzero()[0, 0]))
    if not all(bool(torch.isfinite(part).all()) for part in state.params.values()):
        raise DivergedError(start + len(losses))


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The layers that normalise by statistics of their batch while a network is trained the usual way."""
    return [one for one in network.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]


def settle_batch_norms(network: nn.Module, *inputs: torch.Tensor) -> None:
    """Sets batch norm's running means and variances to those of `inputs` [B, …] at the network's weights.

    They stay so from then on: were a sample's loss to depend on the batch it comes with, it would have no
    influence of its own.
    """
    layers = batch_norms(network)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean of what passes
        layer.train()
    with torch.no_grad():
        network(*inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()


def optimizer_of(schedule: Schedule, leaves: Sequence[torch.Tensor], rate: float) -> torch.optim.Optimizer:
    """torch's own, as the run had it, at this rate."""
    how: dict[str, Any] = {"lr": rate, "weight_decay": schedule.weight_decay}
    if schedule.optimizer == "sgd":
        if schedule.decoupled and schedule.weight_decay:
            raise ValueError("SGD with decoupled weight decay is none of torch's: it can't be replayed")
        return torch.optim.SGD(leaves, momentum=schedule.momentum, **how)
    kind = torch.optim.AdamW if schedule.decoupled else torch.optim.Adam
    return cast(torch.optim.Optimizer, kind(leaves, betas=schedule.betas, eps=schedule.eps, **how))
