"""What methods hold in memory is what the catalog says, by which jobs are admitted and estimated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from app.catalog import Extent, Method
from app.catalog import footprint as told
from worker.influence import eq9, replay
from worker.influence import kronecker as engine
from worker.influence.kronecker import kronecker
from worker.influence.lanczos import lanczos
from worker.influence.task import Task
from worker.influence.training import State
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory


def bytes_of(tensors: Any) -> int:
    return sum(t.nbytes for t in tensors if t is not None)


def test_lanczos_keeps_a_vector_a_step_and_no_more_than_there_are_dimensions() -> None:
    for steps in (7, 30):
        basis = lanczos(lambda u: torch.arange(1.0, 25) * u, torch.ones(24), steps).basis
        assert basis.untyped_storage().nbytes() == told.krylov([(4, 5), (4,)], steps).bytes


def test_a_kronecker_product_keeps_bases_and_eigenvalues() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    params = {name: p.detach() for name, p in network.named_parameters()}
    data = Arrays(torch.randn(8, 1, 4, 4), torch.arange(8) % 3)
    checkpoint = Checkpoint(1, (0.1,), params, {})
    c = kronecker(Task(network, "cross_entropy"), checkpoint, data, chunk=4, rows=None, seed=0)
    held = bytes_of((*c.left.values(), *c.right.values(), *c.values.values()))
    assert held == told.kronecker([t.shape for t in params.values()], "ggn").bytes


def test_longer_sides_have_no_basis() -> None:
    assert told.MOST_SIDE == engine.MOST_SIDE
    assert told.kronecker([(2048, 1)], "ggn").bytes == 8 * (2048**2 + 2048)
    assert told.kronecker([(2049, 1)], "ggn").bytes == 8 * 2049


def test_what_is_too_heavy_says_how_to_mend_it() -> None:
    held = told.krylov([(300, 1000), (1000,)], 1000)
    assert held.too_heavy(held.bytes) is None
    words = held.too_heavy(2**30) or ""
    for part in ("1,000 vectors", "301,000 numbers", "1,204.0 MB", "lower lanczos_steps (1.2 MB each)",
                 "method.parameters", "DIFFIN_MEMORY_BYTES", "1,073.7 MB"):  # fmt: skip
        assert part in words, words


@pytest.mark.parametrize("states", [4, 8, 12])
def test_replayed_states_are_as_few_as_asked_for_on_any_stretch(
    monkeypatch: pytest.MonkeyPatch, states: int
) -> None:
    network = nn.Linear(2, 2)
    start = {name: p.detach() for name, p in network.named_parameters()}
    steps = 60
    order = torch.arange(steps)[:, None] % 4
    schedule = Schedule((0, steps), ((), (0.01,) * steps), total_steps=steps, train_size=4)
    checkpoints = [Checkpoint(0, (), start, {}), Checkpoint(steps, (0.01,) * steps, start, {})]
    data = Arrays(torch.randn(4, 2), torch.arange(4) % 2)
    run = Trajectory(checkpoints, schedule, order)
    size = bytes_of(start.values())
    found: list[weakref.ref[State]] = []

    def watched(*args: Any) -> State:
        state = replayed(*args)
        found.append(weakref.ref(state))
        return state

    replayed, most = replay.replayed, 0
    monkeypatch.setattr(replay, "replayed", watched)
    backwards = replay.backwards(
        Task(network, "cross_entropy"), run, data, 0, 0, steps - 1, states_bytes=states * size
    )
    for expected, (step, _) in zip(reversed(range(steps)), backwards, strict=True):
        assert step == expected
        most = max(most, sum(one() is not None for one in found))
    fewest = 2 * (steps - 1).bit_length()  # two for each halving
    assert most <= max(states, fewest) + 1  # and the one in hand


def test_gradients_of_single_samples_are_few_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eq. 9 of a sample itself, with batches of one: a chunk's gradients would be one a sample."""
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    params = {name: p.detach() for name, p in network.named_parameters()}
    x, y = torch.randn(12, 3), torch.arange(12) % 2
    schedule = Schedule((4,), ((0.1,) * 4,), total_steps=4, train_size=12)
    run = Trajectory([Checkpoint(4, (0.1,) * 4, params, {})], schedule)
    task, options = Task(network, "cross_entropy"), {"target": "self", "batch_size": 1}
    swept = eq9.sweep(task, run, 0, Arrays(x, y), None, None, seed=0, chunk=12, options=options)
    widths: list[int] = []

    def watched(function: Any, **how: Any) -> Any:
        mapped = torch.func.vmap(function, **how)

        def call(*args: Any) -> Any:
            widths.append(len(torch.utils._pytree.tree_leaves(args)[0]))
            return mapped(*args)

        return call

    monkeypatch.setattr(eq9, "vmap", watched)
    monkeypatch.setattr(eq9, "GRADIENT_BYTES", 4 * bytes_of(params.values()))
    eq9.score_chunk(task, run, 0, swept.vectors, x, y, range(12), options=options)
    assert max(widths) == 4


MEASURED = """
import ctypes, gc, json, sys, threading, time
import torch
from torch import nn
from worker.influence.methods import METHODS
from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

torch.set_num_threads(1)
name, options, momentum = json.loads(sys.argv[1])
method, peak = METHODS[name], 0

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def watch():
    global peak
    while True:
        peak = max(peak, resident())
        time.sleep(0.0005)

def work(width):
    hidden = nn.Linear(8, width), nn.GELU(), nn.Linear(width, width), nn.GELU()
    network = nn.Sequential(*hidden, nn.Linear(width, 3))
    for p in network.parameters():
        p.requires_grad_(False)
    size = sum(p.nbytes for p in network.parameters())
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident()  # the network's own weights are no vector: a worker takes the checkpoints'
    checkpoints = [
        Checkpoint(step, (0.01,) * 2, {n: p + 0.001 for n, p in network.named_parameters()}, {},
                   {"momentum_buffer": {n: p * 0 for n, p in network.named_parameters()}} if momentum else {})
        for step in (2, 4)
    ]
    data = Arrays(torch.randn(32, 8), torch.arange(32) % 3)
    schedule = Schedule((2, 4), ((0.01,) * 2,) * 2, total_steps=4, train_size=32, momentum=momentum)
    order = torch.arange(32).reshape(4, 8) if options.get("resolution") == "steps" else None
    run = Trajectory(checkpoints, schedule, order)
    task = Task(network, "cross_entropy")
    vectors = {}
    global peak
    peak = resident()
    if method.sweep is not None:
        swept = method.sweep(task, run, 1, data, data, None, seed=0, chunk=8, options=options)
        vectors = swept.vectors
    x, y = data.inputs[:8], data.targets[:8]
    method.score_chunk(task, run, 1, vectors, x, y, range(8), options=options | {"batch_size": 8})
    time.sleep(0.01)
    return peak - before, size

threading.Thread(target=watch, daemon=True).start()
work(20)  # what libraries load when they are first used
print(json.dumps(work(int(sys.argv[2]))))
"""


@pytest.mark.parametrize(
    ("asked", "momentum"),
    [
        ({"name": "diff_in", "lanczos_steps": 25, "hessian_samples": 8}, 0.0),
        ({"name": "diff_in", "resolution": "steps"}, 0.9),
        ({"name": "tracin"}, 0.0),
        ({"name": "influence_function", "hessian_samples": 8, "cg_steps": 10}, 0.0),
        ({"name": "loss"}, 0.0),
    ],
    ids=["lanczos", "steps", "tracin", "conjugate gradients", "loss"],
)
def test_the_vectors_of_a_method_are_no_more_than_estimated(asked: dict[str, Any], momentum: float) -> None:
    method = TypeAdapter[Any](Method).validate_python(asked)
    width = 1200
    given = json.dumps([asked["name"], method.options(), momentum])
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, given, str(width)],
        # what is let go of goes back to the system at once, so that what is in use is what is resident
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    taken, size = json.loads(ran.stdout)
    shapes = [(width, 8), (width,), (width, width), (width,), (3, width), (3,)]
    assert size == told.FLOAT * told.count(shapes)
    extent = Extent(32, 32, (2, 4), 8, ordered=momentum > 0)
    beside = method.beside(extent, shapes).bytes
    states = 4 * 2 * size + 2 * size if momentum else 0  # replayed ones, and what checkpoints come with
    most = method.vectors * size + beside + states
    assert taken <= most, f"{taken / size:.1f} vectors, {most / size:.1f} told"
    assert taken >= most / 6, f"{taken / size:.1f} vectors, {most / size:.1f} told"
