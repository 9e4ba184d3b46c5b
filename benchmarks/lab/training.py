"""Training runs that keep their states and batch order, and what retraining without samples really does."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import nn

from benchmarks.lab.cache import cached
from benchmarks.lab.data import Problem
from worker.influence import retraining
from worker.influence.order import UNUSED, loader_order
from worker.influence.task import Task, Tensors
from worker.influence.trajectory import Checkpoint, Data, Schedule, Trajectory


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        weight_decay: coupled; decoupled with "adamw".
        schedule: "constant", or "cosine": η_t = η/2 · (1 + cos(πt/T)), which ends near 0.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"

    def steps(self, n: int) -> int:
        """Optimizer steps on `n` samples; the last batch of an epoch may be shorter."""
        return self.epochs * -(-n // self.batch_size)

    def rates(self, n: int) -> tuple[float, ...]:
        """η of each step."""
        total = self.steps(n)
        if self.schedule == "constant":
            return (self.learning_rate,) * total
        return tuple(self.learning_rate / 2 * (1 + math.cos(math.pi * t / total)) for t in range(total))

    def order(self, n: int, seed: int) -> torch.Tensor:
        """int64 [T, B], as torch's loader with this seed draws it."""
        return loader_order(n, self.batch_size, self.steps(n), seed)

    def make_optimizer(self, params: list[torch.Tensor]) -> torch.optim.Optimizer:
        """torch's own; its rate is to be set before each step."""
        decay = self.weight_decay
        if self.optimizer == "sgd":
            return torch.optim.SGD(params, lr=0.0, momentum=self.momentum, weight_decay=decay)
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return kind(params, lr=0.0, weight_decay=decay)


class Start(NamedTuple):
    """A network, and the weights and buffers it starts from."""

    network: nn.Module
    params: Tensors
    buffers: Tensors


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        start: θ_0.
        trajectory: the states that were kept, and the batch order.
    """

    task: Task
    problem: Problem
    recipe: Recipe
    start: Tensors
    buffers: Tensors
    trajectory: Trajectory

    @property
    def order(self) -> torch.Tensor:
        """Rows of each step's batch, int64 [T, B], -1 where a batch is shorter."""
        assert self.trajectory.order is not None
        return self.trajectory.order

    @property
    def rates(self) -> tuple[float, ...]:
        """η of each step, T of them."""
        return self.recipe.rates(len(self.problem.inputs))

    def kept(self, steps: Collection[int]) -> Trajectory:
        """The trajectory as if only the states after these steps had been kept.

        Raises:
            ValueError: one of them was not.
        """
        states = [c for c in self.trajectory.checkpoints if c.step in steps]
        if len(states) != len(set(steps)):
            raise ValueError(f"Not all states were kept after the steps {sorted(steps)}")
        return _trajectory(states, self.recipe, len(self.problem.inputs), self.order)


def initial(make: Callable[[], nn.Module], seed: int, dtype: torch.dtype = torch.float64) -> Start:
    """What `make` makes after `torch.manual_seed(seed)`; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make().to(dtype).eval()
    params = {name: p.detach().clone() for name, p in network.named_parameters()}
    return Start(network, params, {name: b.clone() for name, b in network.named_buffers()})


def evenly(steps: int, m: int) -> list[int]:
    """m steps at even distances, the last of them `steps`."""
    return [round(steps * k / m) for k in range(1, m + 1)]


def regrouped(each: torch.Tensor, bounds: Sequence[int]) -> torch.Tensor:
    """Contributions [T + 1, N] of single steps, added up between `bounds`, last step first: [m, N]."""
    rows = []
    for before, stop in zip((bounds[0], *bounds), bounds, strict=False):
        row = torch.zeros_like(each[0])
        for step in range(stop, before, -1):
            row = row + each[step]
        rows.append(row)
    return torch.stack(rows)


def train(
    task: Task,
    start: Tensors,
    buffers: Tensors,
    problem: Problem,
    recipe: Recipe,
    seed: int,
    keep: Collection[int] | None = None,
    *,
    shown: Callable[[Data], Data] = lambda data: data,
) -> Run:
    """Trains on the given labels, by an ordinary loop around torch's optimizer.

    Args:
        start, buffers: of `initial`.
        seed: of the batch order.
        keep: steps after which to keep the state, 0 being the start; None: all of them.
        shown: what each batch is read through.
    """
    data = shown(problem.train)
    n = len(problem.inputs)
    order = recipe.order(n, seed)
    wanted = range(len(order) + 1) if keep is None else keep
    params = {name: t.detach().clone().requires_grad_() for name, t in start.items()}
    optimizer = recipe.make_optimizer(list(params.values()))
    states = [_state(0, params, buffers, optimizer)] if 0 in wanted else []
    for step, (batch, rate) in enumerate(zip(order, recipe.rates(n), strict=True), start=1):
        rows = batch[batch != UNUSED].tolist()
        [(inputs, targets)] = data.chunks(len(rows), rows)
        loss = task.losses(params, buffers, inputs, targets).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        if step in wanted:
            states.append(_state(step, params, buffers, optimizer))
    return Run(task, problem, recipe, start, buffers, _trajectory(states, recipe, n, order))


def leave_one_out(run: Run, removed: Sequence[int], at_once: int = 64) -> torch.Tensor:
    """What each removed sample did to the mean query loss: float64 [R], positive = harmful. Cached."""
    problem, start = run.problem, Start(run.task.network, run.start, run.buffers)

    def compute() -> torch.Tensor:
        return retraining.leave_one_out(
            run.task, run.start, run.buffers, problem.train, problem.query, order=run.order,
            rates=run.rates, removed=removed, optimizer=run.recipe.make_optimizer, at_once=at_once,
        )  # fmt: skip

    return cached(
        compute, "leave_one_out", list(removed), run.order, *_known(run.task, start, problem, run.recipe)
    )


def retrain(
    task: Task,
    make: Callable[[], nn.Module],
    problem: Problem,
    recipe: Recipe,
    masks: torch.Tensor,
    seeds: Sequence[int],
    at_once: int = 64,
) -> torch.Tensor:
    """Query losses [S, Q] after training on subsets of the samples, each from its own start. Cached.

    Args:
        make: makes the network, as for `initial`.
        masks: the samples of each subset, bool [S, N], all subsets of one size.
        seeds: of each subset's weights and of its batch order, S of them.
    """
    dtype = next(task.network.parameters()).dtype
    begun = [initial(make, seed, dtype) for seed in seeds]
    starts = {name: torch.stack([b.params[name] for b in begun]) for name in begun[0].params}
    order = torch.stack(
        [_within(mask, recipe.order(int(mask.sum()), seed)) for mask, seed in zip(masks, seeds, strict=True)]
    )

    def compute() -> torch.Tensor:
        return retraining.retrain(
            task, starts, begun[0].buffers, problem.train, problem.query, order=order,
            rates=recipe.rates(int(masks[0].sum())), optimizer=recipe.make_optimizer, at_once=at_once,
        )  # fmt: skip

    return cached(compute, "retrain", starts, order, *_known(task, begun[0], problem, recipe))


def _within(mask: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """An order of a subset's samples, counted among themselves, as rows of the whole set."""
    return torch.where(order == UNUSED, UNUSED, mask.nonzero().squeeze(1)[order])


def _known(task: Task, start: Start, problem: Problem, recipe: Recipe) -> tuple[object, ...]:
    """What ground truth depends on, besides the batch order and who is left out."""
    x, y = problem.query_inputs, problem.query_targets
    # networks that differ in an activation print alike, but do not answer alike
    answer = task.losses(start.params, start.buffers, x, y)
    return recipe, problem.inputs, problem.targets, x, y, start.params, start.buffers, answer


def _state(step: int, params: Tensors, buffers: Tensors, optimizer: torch.optim.Optimizer) -> Checkpoint:
    """A checkpoint without its learning rates, which depend on the one before it."""
    carried: dict[str, Tensors] = {}
    for name, p in params.items():
        for kind, value in optimizer.state[p].items():
            if kind != "step" and value is not None:
                carried.setdefault(kind, {})[name] = value.detach().clone()
    return Checkpoint(step, (), {name: p.detach().clone() for name, p in params.items()}, buffers, carried)


def _trajectory(states: Sequence[Checkpoint], recipe: Recipe, n: int, order: torch.Tensor) -> Trajectory:
    """The trajectory of these states, each with the rates of the steps since the one before."""
    steps, rates = tuple(c.step for c in states), recipe.rates(n)
    by_state = tuple(rates[a:b] for a, b in zip((0, *steps), steps, strict=False))
    schedule = Schedule(
        steps,
        by_state,
        total_steps=len(rates),
        train_size=n,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        decoupled=recipe.optimizer == "adamw",
        optimizer=recipe.optimizer,
    )
    known = [replace(c, learning_rates=own) for c, own in zip(states, by_state, strict=True)]
    return Trajectory(known, schedule, order)
