"""How many samples to take at a time, and what to do when that was too many."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import torch
from torch.autograd.graph import saved_tensors_hooks

from worker.influence.errors import SampleTooLargeError
from worker.influence.task import Task, whole
from worker.influence.trajectory import Checkpoint, Data

T = TypeVar("T")

CACHED_BYTES = 40 << 20  # of what a chunk's passes make, beyond which it falls out of a CPU's caches
LOGITS = 8  # tensors as large as the logits that a loss in groups keeps
# as torch says it on CPUs and GPUs, and the system, C++ and oneDNN below it
OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "Cannot allocate memory",
    "bad_alloc",
    "could not create a memory",
    "could not create a primitive",
    "could not execute a primitive",
)


def chunk_size(
    task: Task,
    checkpoint: Checkpoint,
    inputs_example: torch.Tensor,
    targets_example: torch.Tensor,
    *,
    budget_bytes: int,
    most: int | None = None,
) -> int:
    """Samples a chunk: as many as `budget_bytes` hold, no more than `most`, whole groups and at least one.

    Estimated from the shapes alone, never from the memory free at the moment, so that every worker cuts a job
    into the same chunks.

    Args:
        inputs_example: [1, …]; targets_example: [1, …].
        most: a cap; None: 4096, but on a CPU as many as `CACHED_BYTES` hold, at least 64 and 256 at most.
    """
    each = bytes_per_sample(task, checkpoint, inputs_example, targets_example)
    cached = max(64, min(256, CACHED_BYTES // each))
    cap = most or (cached if inputs_example.device.type == "cpu" else 4096)
    return max(task.group, whole(min(cap, budget_bytes // each), task.group))


def by_pixel(inputs: torch.Tensor) -> torch.Tensor:
    """Images [B, C, H, W] on a CPU, laid out so that a pixel's channels lie side by side; others as they are.

    The layout carries on through a network; convolutions and pooling are up to three times as fast in it.
    """
    if inputs.dim() != 4 or not inputs.is_floating_point() or inputs.device.type != "cpu":
        return inputs
    # not .to(memory_format=…), which takes a single channel to be laid out so already
    rows = inputs.permute(0, 2, 3, 1)
    return rows.clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


def bytes_per_sample(
    task: Task, checkpoint: Checkpoint, inputs_example: torch.Tensor, targets_example: torch.Tensor
) -> int:
    """Bytes that one more sample adds to the heaviest pass, a Hessian-vector product.

    It keeps what a gradient keeps of a sample, and the tangents of that, and makes more on the way: five
    times what a gradient keeps bounds the peaks measured (MLP 3.6, CNNs 4.2 to 4.7). What does not depend on
    the samples, such as weights, drops out of the difference between two samples and one. In groups, a row of
    logits comes on top for each of the tensors that the loss makes of them.
    """
    alone = task.of_batch(1)
    one, two = (
        _bytes_kept(alone, checkpoint, torch.cat([inputs_example] * n), torch.cat([targets_example] * n))
        for n in (1, 2)
    )
    logits = LOGITS * task.group * next(iter(checkpoint.params.values())).itemsize if task.in_groups else 0
    return max(1, 5 * (two - one + logits))


def _bytes_kept(task: Task, checkpoint: Checkpoint, inputs: torch.Tensor, targets: torch.Tensor) -> int:
    """Bytes that autograd saves of one forward pass, each storage counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    params = {name: tensor.detach().clone().requires_grad_() for name, tensor in checkpoint.params.items()}
    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = task.losses(params, checkpoint.buffers, inputs, targets)
    del losses  # until here the graph kept every storage alive, so that no address came twice
    return sum(kept.values())


def halving(
    function: Callable[[Sequence[int] | range], T],
    rows: Sequence[int] | range,
    size: int,
    group: int = 1,
) -> Iterator[T]:
    """function(part) of each part of `rows`, `size` rows long, in order; out of memory halves the size.

    Once halved, it stays so for the rest of the rows. Parts are whole groups of `group` rows, the last of
    which may be shorter and is then a part of its own.

    Raises:
        SampleTooLargeError: a single row, or group, does not fit either.
    """
    start, size = 0, max(group, whole(size, group))
    while start < len(rows):
        part = rows[start : start + size]
        part = part[: whole(len(part), group)]
        result = _unless_out_of_memory(function, part)
        if result is None:
            if len(part) <= group:
                least = "sample" if group == 1 else f"group of {group}"
                raise SampleTooLargeError(
                    f"Not even one {least} at a time fits into memory: give the worker more, or use a "
                    "smaller network or smaller inputs"
                )
            size = max(group, whole(len(part) // 2, group))
            continue
        start += len(part)
        yield result[0]


def over_chunks(
    function: Callable[[torch.Tensor, torch.Tensor], T],
    data: Data,
    size: int,
    rows: Sequence[int] | range | None = None,
    group: int = 1,
) -> Iterator[T]:
    """function(inputs, targets) of each chunk of `rows` (None: all), in order, by `halving`."""

    def of(part: Sequence[int] | range) -> T:
        [(inputs, targets)] = data.chunks(len(part), part)
        return function(inputs, targets)

    return halving(of, range(len(data)) if rows is None else rows, size, group)


def out_of_memory(failure: BaseException) -> bool:
    """Whether memory ran out: torch says so on a CPU by a plain RuntimeError."""
    if isinstance(failure, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(failure) for words in OUT_OF_MEMORY)


def _unless_out_of_memory(
    function: Callable[[Sequence[int] | range], T], part: Sequence[int] | range
) -> tuple[T] | None:
    """(function(part),), or None: the error is gone by then, and with it the tensors its traceback held."""
    try:
        return (function(part),)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    _let_go()
    return None


def _let_go() -> None:
    """Gives back to the system what a failed pass has left: tensors held in circles, and freed memory. The C
    library keeps tens of MiB of that, which oneDNN then lacks: it asks the system itself.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
