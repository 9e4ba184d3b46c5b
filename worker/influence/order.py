"""Which samples each step of a run saw, where nobody wrote it down but the seed."""

from __future__ import annotations

import torch

UNUSED = -1  # fills the places of a batch that is shorter than the others


def loader_order(n: int, batch_size: int, steps: int, seed: int, *, drop_last: bool = False) -> torch.Tensor:
    """The batches of torch's own loader, step by step, short ones filled with -1: int64 [steps, b].

    That is `DataLoader(data, batch_size, shuffle=True, drop_last=drop_last, generator=g)` with
    `g = torch.Generator().manual_seed(seed)`, iterated epoch after epoch: each epoch takes from g a seed for
    its workers, its permutation, and one more that stays unused. b = min(batch_size, n).

    Raises:
        ValueError: a data set smaller than a batch, with the last batch dropped: there is no batch at all.
    """
    per_epoch = n // batch_size if drop_last else -(-n // batch_size)
    if per_epoch == 0:
        raise ValueError(f"{n} samples give no batch of {batch_size}")
    batch_size = min(batch_size, n)  # or a size of billions would take all memory
    generator = torch.Generator().manual_seed(seed)
    order = torch.full((steps, batch_size), UNUSED, dtype=torch.int64)
    for start in range(0, steps, per_epoch):
        torch.empty((), dtype=torch.int64).random_(generator=generator)
        epoch = torch.full((per_epoch * batch_size,), UNUSED, dtype=torch.int64)
        rows = torch.randperm(n, generator=generator)[: per_epoch * batch_size]
        epoch[: len(rows)] = rows
        torch.randperm(n, generator=generator)  # the sampler's own remainder, of which it takes nothing
        taken = epoch.view(per_epoch, batch_size)[: steps - start]
        order[start : start + len(taken)] = taken
    return order
