"""The user's way: a plain loop with a network the service has never seen, two added lines, harmful samples.

The scores are those that the engine gives of the PyTorch module itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from diffin import Diffin, Recorder
from diffin.models import Dataset, Job, Trajectory
from tests.client.networks import SAMPLES, WRONG, Data, Reader, Residual, digits, sentences
from worker.influence import trajectory as engine
from worker.influence.score import score
from worker.influence.task import Task

STEPS, BATCH = 80, 30


class Case(NamedTuple):
    """A network with its data, and how it is trained."""

    network: Callable[[], nn.Module]
    data: Callable[[], Data]
    optimizer: Callable[..., torch.optim.Optimizer]
    precision: float  # of the most harmful ones, at least; by chance it is 0.1


CASES = {
    "convolutions": Case(Residual, digits, partial(torch.optim.SGD, lr=0.03), 0.7),
    "batch norm": Case(
        partial(Residual, nn.BatchNorm2d), digits, partial(torch.optim.SGD, lr=0.03, momentum=0.5), 0.6
    ),
    "tokens": Case(Reader, sentences, partial(torch.optim.AdamW, lr=0.02), 0.5),
}


class Run(NamedTuple):
    """A run at the service, and what it was made of."""

    case: Case
    data: Data
    model: nn.Module
    recorder: Recorder
    trajectory: Trajectory
    train: Dataset
    query: Dataset
    job: Job


EACH = [pytest.param(name, marks=[pytest.mark.slow] if name == "batch norm" else []) for name in CASES]


@pytest.fixture(scope="module", params=EACH)
def run(request: pytest.FixtureRequest, client: Diffin, tmp_path_factory: pytest.TempPathFactory) -> Run:
    case = CASES[request.param]
    data = case.data()
    torch.manual_seed(0)
    model = case.network()
    optimizer = case.optimizer(model.parameters())
    x, y = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
    folder = tmp_path_factory.mktemp("run") / "run"
    recorder = Recorder(model, x[:2], optimizer=optimizer, directory=folder, every=STEPS // 4)
    for _ in range(STEPS):
        rows = torch.randint(SAMPLES, (BATCH,))
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(model(x[rows]), y[rows]))
        optimizer.step()
    trajectory = recorder.upload(client)
    train = client.upload_dataset(inputs=data.inputs, targets=data.labels, name=request.param)
    query = client.upload_dataset(inputs=data.query_inputs, targets=data.query_labels, name="query")
    job = client.wait(client.submit(trajectory, train, query))
    return Run(case, data, model, recorder, trajectory, train, query, job)


def by_the_engine(run: Run, method: str) -> np.ndarray:
    """The scores of the recorded run by the PyTorch module itself, from the recorder's files."""
    recording, told = run.recorder.recording, run.recorder.recording.run["optimizer"]
    names = [name for name, _ in run.model.named_parameters()]
    checkpoints = []
    for kept in recording.checkpoints:
        tensors = load_file(recording.directory / kept.file)
        carried = load_file(recording.directory / kept.optimizer_file) if kept.optimizer_file else {}
        kinds = {key.partition(".")[0] for key in carried}
        state = {kind: {name: carried[f"{kind}.{name}"] for name in names} for kind in kinds}
        buffers = {name: value for name, value in tensors.items() if name not in names}
        params = {name: tensors[name] for name in names}
        checkpoints.append(engine.Checkpoint(kept.step, kept.learning_rates, params, buffers, state))
    schedule = engine.Schedule(
        steps=tuple(kept.step for kept in recording.checkpoints),
        learning_rates=tuple(kept.learning_rates for kept in recording.checkpoints),
        total_steps=None,
        train_size=SAMPLES,
        optimizer=told["name"],
        momentum=told.get("momentum", 0.0),
        weight_decay=told["weight_decay"],
        decoupled=told["name"] == "adamw",
    )
    data = run.data
    result = score(
        method,
        Task(run.model, "cross_entropy"),
        engine.Trajectory(checkpoints, schedule, None),
        engine.Arrays(torch.from_numpy(data.inputs), torch.from_numpy(data.labels)),
        engine.Arrays(torch.from_numpy(data.query_inputs), torch.from_numpy(data.query_labels)),
    )
    return result.scores.numpy()


def scores(client: Diffin, run: Run, method: str) -> np.ndarray:
    job = run.job
    if method != "diff_in":
        job = client.wait(client.submit(run.trajectory, run.train, run.query, method=method))
    return np.array([row.score for row in client.scores(job, order="index")])


def test_the_run_arrives_by_itself(run: Run) -> None:
    [file] = run.trajectory.files
    assert (file.role, file.status) == ("architecture", "ready")
    assert run.trajectory.name == type(run.model).__name__
    assert [one.step for one in run.trajectory.checkpoints] == [20, 40, 60, 80]
    assert {one.learning_rate for one in run.trajectory.checkpoints} in ({0.03}, {0.02})
    config = run.trajectory.architecture["config"]
    assert config["num_parameters"] == sum(p.numel() for p in run.model.parameters())
    assert config["inputs"][0]["shape"] == [None, *run.data.inputs.shape[1:]]
    assert config["vocab_size"] == (60 if isinstance(run.model, Reader) else None)
    assert run.model.training, "left as it was found"


def test_the_harmful_samples_are_the_mislabelled_ones(client: Diffin, run: Run) -> None:
    worst = [row.sample_index for row in client.scores(run.job, order="harmful", limit=WRONG)]
    precision = np.mean(np.array(worst) < WRONG)
    assert precision >= run.case.precision, f"{precision:.2f} of the {WRONG} most harmful are mislabelled"


@pytest.mark.parametrize("method", ["diff_in", "tracin", "grad_norm"])
def test_the_scores_are_those_of_the_module_itself(client: Diffin, run: Run, method: str) -> None:
    found, wanted = scores(client, run, method), by_the_engine(run, method)
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert error <= 1e-4, f"{method}: {error:.1e}"
