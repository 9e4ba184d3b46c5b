"""Every device and precision gives what float64 on the CPU gives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.gpu.conftest import CPU, Place, Run
from worker.influence.directional import directional_derivative, ggn_vp, gradient, hvp, mixed
from worker.influence.methods import METHODS
from worker.influence.score import Result, score
from worker.influence.task import Tensors
from worker.influence.vectors import flatten

# torch 2.13 itself compiles decompositions for forward mode with what it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

NAMES = [
    *((name, {}) for name in METHODS),
    ("diff_in", {"curvature": "hessian"}),
    ("diff_in", {"curvature": "ggn"}),
    ("diff_in_eq9", {"target": "self"}),
]


def scored(run: Run, method: str, options: dict[str, str]) -> Result:
    query = run.query if METHODS[method].needs_query else None
    return score(method, run.task, run.trajectory, run.train, query, chunk=4, options=options)


@pytest.fixture
def placed(run: Run, place: Place) -> Iterator[Run]:
    """The run on the device; its network too, for what it keeps beside parameters and buffers."""
    run.task.network.to(place.device)
    yield run.on(place.device, place.dtype)
    run.task.network.to(CPU)


@pytest.mark.parametrize(("method", "options"), NAMES, ids=str)
def test_scores(run: Run, placed: Run, place: Place, method: str, options: dict[str, str]) -> None:
    ours = scored(placed, method, options)
    placed.task.network.to(CPU)
    reference = scored(run, method, options)
    assert place.close(ours.scores, reference.scores)
    assert place.close(ours.losses, reference.losses)
    assert torch.equal(ours.predictions.cpu(), reference.predictions)


def test_derivatives_in_shared_directions(run: Run, placed: Run, place: Place) -> None:
    def found(run: Run) -> Iterator[torch.Tensor]:
        at = run.task, run.trajectory.checkpoints[1], run.train.inputs, run.train.targets
        yield directional_derivative(*at, run.direction).derivatives
        yield mixed(*at, run.direction, run.along).derivatives
        yield mixed(*at, run.direction, run.along, run.direction).derivatives

    ours = list(found(placed))
    placed.task.network.to(CPU)
    for one, reference in zip(ours, found(run), strict=True):
        assert place.close(one, reference)


def test_vectors_that_all_samples_share(run: Run, placed: Run, place: Place) -> None:
    def found(run: Run) -> Iterator[Tensors]:
        at = run.task, run.trajectory.checkpoints[1], run.train
        yield gradient(*at, chunk=4)
        yield hvp(*at, run.direction, chunk=4)
        yield ggn_vp(*at, run.direction, chunk=4)

    ours = list(found(placed))
    placed.task.network.to(CPU)
    for one, reference in zip(ours, found(run), strict=True):
        assert place.close(flatten(one), flatten(reference))
