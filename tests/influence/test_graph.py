"""Networks that come as ONNX graphs compute what the modules they were exported from compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from benchmarks.generality.exporting import through_graph
from benchmarks.generality.zoo import ZOO
from worker.influence.networks import expected_tensors
from worker.influence.score import score
from worker.influence.task import Task
from worker.influence.trajectory import Arrays, Checkpoint, Schedule, Trajectory

# torch 2.13 itself compiles decompositions for forward mode with what it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


State = dict[str, Tensor]
# those that second derivatives are taken of here; benchmarks/networks.py takes them of all
curved = pytest.mark.parametrize("twin", ["lenet", "unet", "text", "gpt", "two_tower"], indirect=True)


class Twin:
    """A network and what the service makes of its graph."""

    def __init__(self, name: str, folder: Path) -> None:
        torch.manual_seed(0)
        self.name, self.example = name, ZOO[name]
        self.network = self.example.network().eval()
        for name, buffer in self.network.named_buffers():  # as if it had been trained
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
        self.graph = through_graph(self.network, self.example.inputs(3), folder)
        self.buffers = dict(self.network.named_buffers())

    def draw(self, seed: int) -> dict[str, Tensor]:
        """Other values for the parameters than those that were exported."""
        torch.manual_seed(seed)
        return {name: p.detach() + 0.05 * torch.randn_like(p) for name, p in self.network.named_parameters()}

    def translated(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """By the names that the graph has: an exporter keeps one of two tied names, any one."""
        return {"lm_head.weight" if n == "wte.weight" else n: p for n, p in params.items()}

    def task(self, graph: bool) -> Task:
        network = self.graph if graph else self.network
        return Task(network, "clip", 2) if self.contrastive else Task(network, "cross_entropy")

    @property
    def contrastive(self) -> bool:
        return len(self.graph.graph.inputs) > 1

    def data(self, n: int) -> Arrays:
        inputs = self.example.inputs(n)
        return Arrays(inputs[0], inputs[1] if self.contrastive else self.example.targets(n))

    def scores(self, method: str, *, graph: bool) -> Tensor:
        torch.manual_seed(1)
        train, query = (self.data(n) for n in (6, 2))
        chosen = [self.draw(seed) for seed in (1, 2)]
        if graph:
            chosen = [self.translated(params) for params in chosen]
        checkpoints = [
            Checkpoint(10 * (k + 1), (0.01,) * 10, params, self.buffers) for k, params in enumerate(chosen)
        ]
        rates = tuple(c.learning_rates for c in checkpoints)
        trajectory = Trajectory(checkpoints, Schedule((10, 20), rates, None, 6))
        options = {"lanczos_steps": 2} if method == "diff_in" else {}
        return score(method, self.task(graph), trajectory, train, query, chunk=4, options=options).scores


@pytest.fixture(scope="module", params=list(ZOO))
def twin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    return Twin(request.param, tmp_path_factory.mktemp(request.param))


def outputs(found: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("size", [1, 5])
def test_outputs_are_the_modules_for_any_batch_and_any_parameters(twin: Twin, size: int) -> None:
    params, inputs = twin.draw(3), twin.example.inputs(size)
    with torch.no_grad():
        theirs = functional_call(twin.network, {**params, **twin.buffers}, inputs)
        ours = functional_call(twin.graph, {**twin.translated(params), **twin.buffers}, inputs)
    for a, b in zip(outputs(theirs), outputs(ours), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-5 * max(1.0, float(a.abs().max()))


def test_tensors_have_the_names_and_values_of_the_state_dict(twin: Twin) -> None:
    theirs, ours = twin.network.state_dict(), twin.graph.state_dict()
    theirs.pop("wte.weight", None)  # tied, and told by nobody
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if "num_batches" not in name)
    kinds = expected_tensors(twin.graph)
    assert kinds.buffers.keys() == twin.buffers.keys()


def test_scores_by_a_derivative_are_the_modules(twin: Twin) -> None:
    same_scores(twin, "tracin")


@curved
def test_scores_by_the_curvature_are_the_modules(twin: Twin) -> None:
    same_scores(twin, "diff_in")


def same_scores(twin: Twin, method: str) -> None:
    theirs, ours = twin.scores(method, graph=False), twin.scores(method, graph=True)
    assert (theirs - ours).abs().max() <= 1e-4 * theirs.abs().max()


@curved
def test_gradients_of_single_samples_and_products_with_the_curvature_are_the_modules(twin: Twin) -> None:
    data, params = twin.data(2), twin.draw(3)
    for theirs, ours in zip(
        derivatives(twin.task(False), params, twin.buffers, data.inputs, data.targets),
        derivatives(twin.task(True), twin.translated(params), twin.buffers, data.inputs, data.targets),
        strict=True,
    ):
        # a pair alone has nothing to be told from: its gradients are 0 but for rounding
        assert (theirs - ours).norm() <= 1e-4 * theirs.norm() + 1e-6


def derivatives(task: Task, params: State, buffers: State, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(∇ℓ of each sample, H·1)."""

    def loss(params: State, x: Tensor, y: Tensor) -> Tensor:
        return task.losses(params, buffers, x[None], y[None])[0]

    def slope(params: State) -> State:
        found: State = grad(lambda p: task.losses(p, buffers, x, y).sum())(params)
        return found

    single = vmap(grad(loss), (None, 0, 0))(params, x, y)
    bend = jvp(slope, (params,), ({name: torch.ones_like(p) for name, p in params.items()},))[1]
    return torch.cat([g.reshape(len(g), -1) for g in single.values()], 1), torch.cat(
        [h.flatten() for h in bend.values()]
    )
