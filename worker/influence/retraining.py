"""What really happens without some samples: retraining, many runs side by side as one batch of parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch.func import grad, vmap

from worker.influence.errors import SampleTooLargeError
from worker.influence.memory import bytes_per_sample, halving, out_of_memory
from worker.influence.order import UNUSED
from worker.influence.task import Task, Tensors, whole
from worker.influence.trajectory import Arrays, Checkpoint, Data

Optimizer = Callable[[list[torch.Tensor]], torch.optim.Optimizer]

AT_ONCE = 16  # more runs side by side only fall out of a CPU's caches
COPIES = 5  # of a run's parameters: themselves, gradients, what Adam carries, and one in the making


def leave_one_out(
    task: Task,
    start: Tensors,
    buffers: Tensors,
    train: Data,
    query: Data,
    *,
    order: torch.Tensor,
    rates: Sequence[float],
    removed: Sequence[int],
    optimizer: Optimizer = torch.optim.SGD,
    at_once: int = AT_ONCE,
) -> torch.Tensor:
    """L_V with the sample minus L_V without it, trained from the same start in the same order.

    Removing a sample takes its weight in its batches from 1 to 0; the divisor B stays.

    Args:
        start: θ_0.
        removed: R rows, one run each.
        order, rates, optimizer, at_once: as in `retrain`.

    Returns:
        [R] float64, positive = harmful.
    """
    kept = torch.cat([torch.ones(1, len(train), dtype=torch.bool), without(removed, len(train))])
    losses = retrain(
        task, repeated(start, len(kept)), buffers, train, query,
        order=order, rates=rates, kept=kept, optimizer=optimizer, at_once=at_once,
    ).double().mean(1)  # fmt: skip
    return losses[0] - losses[1:]


def repeated(start: Tensors, runs: int) -> Tensors:
    """The same start for each run: views [R, …]."""
    return {name: t.expand(runs, *t.shape) for name, t in start.items()}


def without(removed: Sequence[int], population: int) -> torch.Tensor:
    """Which samples a run has that leaves one out: bool [R, N]."""
    return torch.arange(population) != torch.tensor(removed)[:, None]


def halves(population: int, subsets: int, seed: int) -> torch.Tensor:
    """Random halves of N samples: bool [S, N]."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.stack(
        [torch.randperm(population, generator=generator)[: population // 2] for _ in range(subsets)]
    )
    return torch.zeros(subsets, population, dtype=torch.bool).scatter_(1, chosen, True)


def reordered(order: torch.Tensor, seed: int) -> torch.Tensor:
    """The same batches with each one's samples added up in another order, int64 [T, B].

    Exact arithmetic would end in the same state: how far apart the ends are is what rounding does to a run.
    """
    keys = torch.rand(order.shape, generator=torch.Generator().manual_seed(seed))
    return order.gather(1, torch.where(order == UNUSED, torch.inf, keys).argsort(1))


def retrain(
    task: Task,
    starts: Tensors,
    buffers: Tensors,
    train: Data,
    query: Data,
    *,
    order: torch.Tensor,
    rates: Sequence[float],
    kept: torch.Tensor | None = None,
    divide_by_kept: bool = False,
    optimizer: Optimizer = torch.optim.SGD,
    at_once: int = AT_ONCE,
    batched: bool = True,
    tick: Callable[[float], None] = lambda runs: None,
) -> torch.Tensor:
    """Query losses after R training runs. Data is read batch by batch, for all runs at once.

    Computed in the dtype of `starts`: inputs are brought to it; a network's non-persistent buffers must have
    it (`in_dtype`).

    Args:
        starts: θ_0 of each run, tensors [R, …].
        order: rows of each step's batch, int64 [T, B], or [R, T, B] where each run has its own; -1 fills
            batches that are shorter.
        rates: η of each step, T of them.
        kept: the samples each run has, bool [R, N]; None: all. The rest weighs 0 in its batches.
        divide_by_kept: a batch's mean is over those of its samples that the run has, as if it were trained on
            these alone; else the divisor is the batch's size all the same.
        optimizer: makes torch's optimizer of the parameters; it must act on each number by itself, as SGD,
            Adam and AdamW do.
        at_once: runs side by side; fewer where memory does not do for them.
        batched: by vmap; else run after run, for networks it can't take.
        tick: told of what was done, in runs.

    Returns:
        [R, Q].

    Raises:
        SampleTooLargeError: not even one run fits into memory.
    """
    total = len(next(iter(starts.values())))

    def part(runs: Sequence[int] | range) -> torch.Tensor:
        some = slice(runs[0], runs[-1] + 1)
        params = {
            name: t[some].detach().clone(memory_format=torch.contiguous_format) for name, t in starts.items()
        }
        orders = order if order.dim() == 2 else order[some].transpose(0, 1)  # step first
        mine = None if kept is None else kept[some]
        used = _Batches(train, orders, mine, divide_by_kept, next(iter(params.values())).dtype)
        (_side_by_side if batched else _one_by_one)(
            task, params, buffers, used, rates, optimizer, lambda: tick(len(runs) / len(rates))
        )
        return _query_losses(task, params, buffers, query, order.shape[-1], batched)

    return torch.cat(list(halving(part, range(total), at_once)))


class _Batches:
    """The batches of a few runs: inputs, targets, and what each sample weighs in each run."""

    def __init__(
        self,
        train: Data,
        order: torch.Tensor,
        kept: torch.Tensor | None,
        divide_by_kept: bool,
        dtype: torch.dtype,
    ) -> None:
        self._train, self._order, self._kept, self._dtype = train, order, kept, dtype
        self._divide_by_kept = divide_by_kept
        self.own = order.dim() == 3  # whether each run has batches of its own

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(inputs [B, …], targets [B, …], weights [B] or [r, B]), or [r, B, …] with batches of their own."""
        rows = self._order[step]
        used = rows != UNUSED
        [(inputs, targets)] = self._train.chunks(rows.numel(), rows.clamp(min=0).flatten().tolist())
        weights = self._weights(rows.clamp(min=0), used).to(inputs.device)
        if self.own:
            inputs, targets = (t.reshape(*rows.shape, *t.shape[1:]) for t in (inputs, targets))
        return as_dtype(inputs, self._dtype), targets, weights

    def _weights(self, rows: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
        if self._kept is None:
            mine = used
        elif self.own:
            mine = used & self._kept.gather(1, rows)
        else:
            mine = used & self._kept[:, rows]
        divisor = (mine if self._divide_by_kept else used).sum(-1, keepdim=True)
        return mine.to(self._dtype) / divisor.clamp(min=1)  # a batch that lost all its samples moves nothing


def _side_by_side(
    task: Task,
    params: Tensors,
    buffers: Tensors,
    batches: _Batches,
    rates: Sequence[float],
    optimizer: Optimizer,
    tick: Callable[[], None],
) -> None:
    """Trains `params` [R, …] in place."""
    loss = _weighted_loss(task, buffers)
    shared = None if not batches.own else 0
    steps = optimizer(list(params.values()))
    for step, rate in zip(range(len(batches)), rates, strict=True):
        inputs, targets, weights = batches[step]
        in_dims = (0, shared, shared, 0 if weights.dim() == 2 else None)
        slopes = vmap(grad(loss), in_dims=in_dims)(params, inputs, targets, weights)
        _step(steps, params, slopes, rate)
        tick()


def _one_by_one(
    task: Task,
    params: Tensors,
    buffers: Tensors,
    batches: _Batches,
    rates: Sequence[float],
    optimizer: Optimizer,
    tick: Callable[[], None],
) -> None:
    """The same by autograd, each run by itself."""
    loss, runs = _weighted_loss(task, buffers), len(next(iter(params.values())))
    singles = [{name: t[run].clone() for name, t in params.items()} for run in range(runs)]
    optimizers = [optimizer(list(single.values())) for single in singles]
    for step, rate in zip(range(len(batches)), rates, strict=True):
        inputs, targets, weights = batches[step]
        for run, (single, steps) in enumerate(zip(singles, optimizers, strict=True)):
            leaves = {name: t.detach().requires_grad_() for name, t in single.items()}
            own = (t[run] if batches.own else t for t in (inputs, targets))
            weight = weights[run] if weights.dim() == 2 else weights
            with torch.enable_grad():
                slopes = torch.autograd.grad(
                    loss(leaves, *own, weight), list(leaves.values()), materialize_grads=True
                )
            _step(steps, single, dict(zip(leaves, slopes, strict=True)), rate)
        tick()
    for name, t in params.items():
        t.copy_(torch.stack([single[name] for single in singles]))


def _weighted_loss(task: Task, buffers: Tensors) -> Callable[..., torch.Tensor]:
    def loss(params: Tensors, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        batch = task.of_batch(len(x))
        return batch.weighted(batch.outputs(params, buffers, x, y), y, weight)

    return loss


def _step(optimizer: torch.optim.Optimizer, params: Tensors, slopes: Tensors, rate: float) -> None:
    for name, param in params.items():
        param.grad = slopes[name]
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def _query_losses(
    task: Task, params: Tensors, buffers: Tensors, query: Data, chunk: int, batched: bool
) -> torch.Tensor:
    """[R, Q], as many queries at a time as training took samples."""
    dtype, runs = next(iter(params.values())).dtype, len(next(iter(params.values())))
    parts = []
    for inputs, targets in query.chunks(max(task.group, whole(chunk, task.group))):
        x = as_dtype(inputs, dtype)
        if batched:
            parts.append(vmap(lambda p, x=x, y=targets: task.losses(p, buffers, x, y))(params))
        else:
            singles = ({name: t[run] for name, t in params.items()} for run in range(runs))
            parts.append(torch.stack([task.losses(single, buffers, x, targets) for single in singles]))
    return torch.cat(parts, dim=1)


def as_dtype(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Floating numbers in another dtype; token ids stay."""
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def in_dtype(task: Task, dtype: torch.dtype) -> Task:
    """The task with a copy of its network whose constants are of that dtype."""
    return replace(task, network=copy.deepcopy(task.network).to(dtype))


def as_dtypes(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """The same of several."""
    return {name: as_dtype(t, dtype) for name, t in tensors.items()}


def takes_step(
    task: Task,
    params: Tensors,
    buffers: Tensors,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    batched: bool,
) -> bool:
    """Whether two runs of this network take a step on a few samples, side by side or one after the other."""
    data, order = Arrays(inputs, targets), torch.arange(len(inputs))[None]
    try:
        retrain(task, repeated(params, 2), buffers, data, data, order=order, rates=[0.0], batched=batched)
    except (SampleTooLargeError, MemoryError):
        raise
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as problem:
        if out_of_memory(problem):
            raise
        return False  # whatever an operator has against it
    return True


def runs_at_once(
    task: Task,
    checkpoint: Checkpoint,
    inputs_example: torch.Tensor,
    targets_example: torch.Tensor,
    *,
    batch: int,
    budget_bytes: int,
) -> int:
    """Runs side by side: as many as `budget_bytes` hold with a batch's activations, `AT_ONCE` at most.

    From the shapes alone, so that every worker cuts a job into the same groups.
    """
    own = sum(t.nbytes for t in checkpoint.params.values())
    samples = batch * bytes_per_sample(task, checkpoint, inputs_example, targets_example)
    return max(1, min(AT_ONCE, budget_bytes // (COPIES * own + samples)))
