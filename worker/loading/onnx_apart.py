"""Whether a graph computes each sample by itself: what it makes of one must not depend on those beside it.

The influence of a sample is told by its own loss. Where the network mixes the samples of a batch, losses and
scores would depend on how the service puts its batches together. So random samples are computed in several
companies, and each one's outputs compared.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from worker.influence.networks.graph import GraphNetwork, Input
from worker.influence.networks.graph.planning import UNFIT
from worker.loading.errors import LoadError, at, pointer, quoted

# Each of samples 0 to 2 stands in two of them: in other places, beside others, in another number.
COMPANIES = ((0, 1), (1, 2), (2, 0, 3))
INTEGERS = (16, 2)  # token ids below it, and, where that is beyond an embedding or a mask, below that
MOST_SECONDS = 20.0  # of a processor: a graph that takes longer is not compared
# What counts as a difference, as a share of an output's largest value. Batches of other sizes are computed by
# other kernels, whose rounding deep networks amplify: what it may explain in float32 must hold in float64.
SUSPECT, CERTAIN = 1e-4, 1e-7
SPREAD = 0.1  # of what is added to tensors of one value: zeros alone would hide what comes before them
Differences = dict[str, tuple[float, float]]


def check_apart(path: Path, guess: int, seconds: float = MOST_SECONDS) -> None:
    """Computes random samples by the canonical graph in `path`.

    A graph that cannot be computed of them (ids that no embedding has, too little memory or time) passes.

    Args:
        guess: for sizes that are free beside the batch.
        seconds: of a processor.

    Raises:
        LoadError: outputs of a sample depend on the samples beside it.
    """
    with warnings.catch_warnings(), torch.no_grad(), _Deadline(seconds):
        warnings.simplefilter("ignore")  # torch's, of odd shapes
        try:
            network = GraphNetwork.read(path)
            _spread(network)
            found = _mixed(network, guess, SUSPECT, double=False)
            if found:
                found = _mixed(network.double(), guess, CERTAIN, double=True)
        except (*UNFIT, MemoryError, TimeoutError):
            return
    if found:
        raise _refused(found)


class _Deadline(TorchFunctionMode):
    """Raises TimeoutError once the process has computed for so long."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.process_time() + seconds

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if time.process_time() > self._end:
            raise TimeoutError
        return function(*args, **(kwargs or {}))


def _spread(network: GraphNetwork) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.is_floating_point() and parameter.numel() > 1 and parameter.min() == parameter.max():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(drawn, alpha=SPREAD)


def _mixed(network: GraphNetwork, guess: int, most: float, *, double: bool) -> Differences:
    """(difference, largest value) of each output that differs by more than `most` of its largest value.

    Raises:
        one of UNFIT: the graph can't be computed.
    """
    for below in INTEGERS:
        samples = [_drawn(entry, guess, below, double) for entry in network.graph.inputs]
        try:
            given = [network(*(x[list(company)] for x in samples)) for company in COMPANIES]
            break
        except UNFIT as unfit:
            failed = unfit
    else:
        raise failed
    by_output = list(zip(*(one if isinstance(one, tuple) else (one,) for one in given), strict=True))
    found = {
        name: _difference(outputs)
        for name, outputs in zip(network.graph.outputs, by_output, strict=True)
        if all(y.shape[:1] == (len(company),) for y, company in zip(outputs, COMPANIES, strict=True))
    }
    return {name: (by, largest) for name, (by, largest) in found.items() if by > most * largest}


def _drawn(entry: Input, guess: int, below: int, double: bool) -> Tensor:
    """Samples [4, …] for an input, no two of them the same but for flags."""
    generator = torch.Generator().manual_seed(0)
    count = 1 + max(map(max, COMPANIES))
    shape = (count, *(n or guess for n in entry.shape[1:]))
    dtype = getattr(torch, entry.dtype)
    if dtype.is_floating_point:  # within (0, 1), where every function is defined
        return torch.rand(shape, generator=generator, dtype=torch.float64 if double else dtype)
    below = 2 if dtype == torch.bool else below
    drawn = torch.randint(below, shape, generator=generator)
    drawn.view(count, -1)[:, :1] = torch.arange(count)[:, None] % below
    return drawn.to(dtype)


def _difference(outputs: Sequence[Tensor]) -> tuple[float, float]:
    """(how far a sample's outputs are apart, the largest there is) of an output in each company."""
    rows: dict[int, list[Tensor]] = {}
    for output, company in zip(outputs, COMPANIES, strict=True):
        for sample, row in zip(company, output.to(torch.float64), strict=True):
            rows.setdefault(sample, []).append(row)
    apart = max(_apart(*both) for both in rows.values() if len(both) > 1)
    return apart, max(_largest(output.to(torch.float64).abs()) for output in outputs)


def _apart(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return inf
    same = (one == other) | (one.isnan() & other.isnan())
    apart = torch.where(same, 0.0, (one - other).abs()).nan_to_num(inf, posinf=inf)
    return float(apart.max()) if apart.numel() else 0.0


def _largest(values: Tensor) -> float:
    values = values[values.isfinite()]
    return float(values.max()) if values.numel() else 0.0


def _refused(found: Differences) -> LoadError:
    told = {
        name: f"differs by {by:.3g} at values of up to {largest:.3g}" if by < inf else "differs throughout"
        for name, (by, largest) in found.items()
    }
    first, how = next(iter(told.items()))
    return LoadError(
        "mixed_samples",
        f"The graph mixes the samples of a batch: of the same sample its output {quoted(first)!r} {how} "
        "with other samples beside it. Influence is that of one sample, so each must be computed by itself. "
        "Usual causes: batch norm by the batch's own statistics (call model.eval() before the export; with "
        "track_running_stats=False it knows no others); a mean, softmax, norm or sort along axis 0; "
        "attention without batch_first; a reshape or transpose that takes the batch's axis with others.",
        [at(pointer("outputs", name), f"{how} with other samples beside it") for name, how in told.items()],
    )
