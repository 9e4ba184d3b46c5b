"""What the rules of dual numbers save over torch's forward mode, of networks as PyTorch.

    python -m benchmarks.generality.rules [--quick]

CPU milliseconds of the pass that scores by first order, and of the nested one, over 32 samples, run in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.generality.networks import GROUP
from benchmarks.generality.zoo import ZOO, Example
from benchmarks.lab.bars import parser, table
from benchmarks.timing.clock import in_turns
from worker.influence import directional
from worker.influence.task import Task
from worker.influence.trajectory import Checkpoint

SAMPLES = 32


def passes(example: Example) -> dict[str, Callable[[], object]]:
    """Each pass by rules and by torch."""
    torch.manual_seed(0)
    network, inputs = example.network(), example.inputs(SAMPLES)
    pairs = len(inputs) > 1
    task = Task(network, "clip", GROUP) if pairs else Task(network, "cross_entropy")
    targets = inputs[1] if pairs else example.targets(SAMPLES)
    params = {name: p.detach() for name, p in network.named_parameters()}
    u = {name: torch.randn_like(p) for name, p in params.items()}
    at = (task, Checkpoint(1, (0.1,), params, dict(network.named_buffers())), inputs[0], targets)

    def by(rules: bool, act: Callable[[], object]) -> None:
        without = directional._WITHOUT_RULES
        if rules:
            without.discard(network)
        else:
            without.add(network)
        act()
        if rules and network in without:
            raise RuntimeError("no rule for an operation of this network")

    first = partial(directional.directional_derivative, *at, u)
    nested = partial(directional.mixed, *at, u, u)
    return {
        "first, torch": partial(by, False, first),
        "first, rules": partial(by, True, first),
        "nested, torch": partial(by, False, nested),
        "nested, rules": partial(by, True, nested),
    }


def main() -> None:
    torch.set_num_threads(1)
    quick = parser(__doc__).parse_args().quick
    rows: list[list[object]] = []
    for name, example in ZOO.items():
        taken = in_turns(passes(example), 3 if quick else 7)
        rows = rows or [["network", *taken]]
        rows.append([name, *(f"{1000 * seconds:.1f}" for seconds in taken.values())])
    print(table(rows))


if __name__ == "__main__":
    main()
