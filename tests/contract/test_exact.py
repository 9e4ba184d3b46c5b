"""Scores of one very run, batch by batch, and means over several runs or draws, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from diffin import Diffin, DiffinError, InputInvalid, Recorder
from diffin.models import Dataset, Job, Trajectory
from tests import walk
from tests.services import Service
from tests.shapes import BOTH
from worker.influence import trajectory as engine
from worker.influence.networks import build
from worker.influence.score import score
from worker.influence.suspicion import suspicion
from worker.influence.task import Task

CONFIG = {"in_features": 64, "hidden": [8], "num_classes": 10, "activation": "tanh"}
SAMPLES, BATCH, EPOCHS, RATE, MOMENTUM = 240, 32, 2, 0.1, 0.5
STEPS = EPOCHS * 8  # the last batch of an epoch is short
RECIPE = {"batch_size": BATCH, "epochs": EPOCHS, "seed": 5}
STEPWISE = {"name": "diff_in", "resolution": "steps"}


class Data(NamedTuple):
    """Training and query set, on disk and at the service."""

    x: np.ndarray
    y: np.ndarray
    train: Dataset
    query: Dataset


@pytest.fixture(scope="module", params=BOTH)
def client(request: pytest.FixtureRequest) -> Iterator[Diffin]:
    service: Service = request.getfixturevalue(request.param)
    with Diffin(service.url, service.key) as client:
        yield client


@pytest.fixture(scope="module")
def data(client: Diffin) -> Data:
    x, y = walk.digits(SAMPLES)
    train = client.ready(client.upload_dataset(inputs=x, targets=y, name="train"))
    query = client.ready(client.upload_dataset(inputs=x[:30], targets=y[:30], name="query"))
    return Data(x, y, train, query)


def recorded(folder: Path, data: Data, seed: int = 0, *, whole: bool = True) -> Recorder:
    """A run of SGD with momentum; `whole`: with its initial state, its batches and the optimizer's state."""
    torch.manual_seed(seed)
    model = build("mlp", CONFIG)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    recorder = Recorder(
        name=f"run {seed}",
        architecture={"name": "mlp", "config": CONFIG},
        optimizer=optimizer,
        optimizer_state=whole,
        batch_size=BATCH,
        directory=folder,
        every=8,
    )
    rows = TensorDataset(torch.from_numpy(data.x), torch.from_numpy(data.y), torch.arange(SAMPLES))
    loader = DataLoader(rows, BATCH, shuffle=True, generator=torch.Generator().manual_seed(5))
    if whole:
        recorder.start(model)
    step = 0
    for _ in range(EPOCHS):
        for inputs, targets, indices in loader:
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(model(inputs), targets))
            optimizer.step()
            step += 1
            recorder.step(model, step, RATE, indices=indices if whole else None)
    recorder.finish(model)
    return recorder


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Recorder:
    return recorded(tmp_path_factory.mktemp("run") / "run", data)


@pytest.fixture(scope="module")
def run(client: Diffin, recorder: Recorder) -> Trajectory:
    return recorder.upload(client)


def answer(client: Diffin, run: Any, data: Data, method: Any, query: Dataset | None = None) -> Job:
    return client.wait(client.submit(run, data.train, query or data.query, method=method))


def scores(client: Diffin, job: Job) -> np.ndarray:
    return np.array([row.score for row in client.scores(job, order="index")])


def codes(job: Job) -> list[str]:
    return [warning["code"] for warning in (job.result or {})["warnings"]]


def by_the_engine(recorder: Recorder, data: Data, method: str = "diff_in", **options: Any) -> np.ndarray:
    """The scores of the recorded run, from its files alone."""
    recording = recorder.recording
    network = build("mlp", CONFIG)
    names = [name for name, _ in network.named_parameters()]
    checkpoints = []
    for kept in recording.checkpoints:
        tensors = load_file(recording.directory / kept.file)
        state: dict[str, dict[str, torch.Tensor]] = {}
        if kept.optimizer_file:
            carried = load_file(recording.directory / kept.optimizer_file)
            state["momentum_buffer"] = {name: carried[f"momentum_buffer.{name}"] for name in names}
        params = {name: tensors[name] for name in names}
        checkpoints.append(engine.Checkpoint(kept.step, kept.learning_rates, params, {}, state))
    schedule = engine.Schedule(
        steps=tuple(kept.step for kept in recording.checkpoints),
        learning_rates=tuple(kept.learning_rates for kept in recording.checkpoints),
        total_steps=None,
        train_size=SAMPLES,
        momentum=MOMENTUM,
    )
    order = load_file(recording.directory / (recording.batch_order or ""))["batch_order"]
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    result = score(
        method,
        Task(network, "cross_entropy"),
        engine.Trajectory(checkpoints, schedule, order),
        engine.Arrays(x, y),
        engine.Arrays(x[:30], y[:30]),
        options=options,
    )
    return result.scores.numpy()


def test_a_recorded_run_arrives_whole(run: Trajectory) -> None:
    assert [one.step for one in run.checkpoints] == [0, 8, 16]
    states = [(one.optimizer_file or {}).get("state") for one in run.checkpoints]
    assert states == [None, ["momentum_buffer"], ["momentum_buffer"]]
    assert run.batch_order is not None
    assert (run.batch_order.status, run.batch_order.steps, run.batch_order.batch) == ("ready", STEPS, BATCH)
    assert run.optimizer is not None and run.optimizer["momentum"] == MOMENTUM


@pytest.mark.parametrize("resolution", ["steps", "tail"])
def test_exact_scores_are_the_engines_on_the_recorded_run(
    client: Diffin, recorder: Recorder, run: Trajectory, data: Data, resolution: str
) -> None:
    job = answer(client, run, data, {"name": "diff_in", "resolution": resolution, "tail": 0.5})
    wanted = by_the_engine(recorder, data, resolution=resolution, tail=0.5)
    np.testing.assert_allclose(scores(client, job), wanted, rtol=1e-3, atol=1e-6 * np.abs(wanted).max())
    assert (job.result or {})["answers"] == "this_run"
    assert codes(job) == []


@pytest.mark.parametrize("name", ["influence_function", "self_influence", "grad_norm", "el2n"])
def test_every_method_gives_the_engines_scores(
    client: Diffin, recorder: Recorder, run: Trajectory, data: Data, name: str
) -> None:
    query = data.query if name == "influence_function" else None
    job = client.wait(client.submit(run, data.train, query, method=name))
    wanted = by_the_engine(recorder, data, name)
    np.testing.assert_allclose(scores(client, job), wanted, rtol=1e-2, atol=1e-4 * np.abs(wanted).max())
    assert job.progress.completed == job.progress.total
    assert codes(job) == []


def test_a_seed_tells_the_order_that_the_file_tells(
    client: Diffin, recorder: Recorder, run: Trajectory, data: Data
) -> None:
    seeded = client.create_trajectory(**recorder.recording.run, recipe=RECIPE)
    for kept in recorder.recording.checkpoints:
        client.upload_checkpoint(
            seeded,
            recorder.directory / kept.file,
            step=kept.step,
            learning_rate=kept.learning_rate,
            optimizer_file=recorder.directory / kept.optimizer_file if kept.optimizer_file else None,
        )
    job = answer(client, seeded, data, STEPWISE)
    assert (job.result or {})["answers"] == "this_run"
    np.testing.assert_array_equal(scores(client, job), scores(client, answer(client, run, data, STEPWISE)))


def test_another_seed_is_found_out_by_its_replay(client: Diffin, recorder: Recorder, data: Data) -> None:
    wrong = client.create_trajectory(**recorder.recording.run, recipe=RECIPE | {"seed": 6})
    for kept in recorder.recording.checkpoints:
        path = recorder.directory / kept.file
        client.upload_checkpoint(wrong, path, step=kept.step, learning_rate=kept.learning_rate)
    assert "replay_diverged" in codes(answer(client, wrong, data, STEPWISE))


def test_without_its_batches_a_run_is_taken_in_segments(client: Diffin, data: Data, tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", data, whole=False).upload(client)
    stepwise, segments = (answer(client, run, data, method) for method in (STEPWISE, "diff_in"))
    assert (stepwise.result or {})["answers"] == "expected"
    assert codes(stepwise) == ["batch_order_unknown"]
    np.testing.assert_array_equal(scores(client, stepwise), scores(client, segments))


def test_steps_that_cannot_be_replayed_are_told(client: Diffin, recorder: Recorder, data: Data) -> None:
    late = client.create_trajectory(**recorder.recording.run)
    for kept in recorder.recording.checkpoints[1:]:
        state = recorder.directory / (kept.optimizer_file or "")
        path = recorder.directory / kept.file
        client.upload_checkpoint(late, path, step=kept.step, learning_rate=RATE, optimizer_file=state)
    client.upload_batch_order(late, recorder.directory / (recorder.recording.batch_order or ""))
    job = answer(client, late, data, STEPWISE)
    assert codes(job) == ["steps_before_first_checkpoint"]
    assert "8 of the last 16 steps" in (job.result or {})["warnings"][0]["detail"]


def test_several_runs_are_averaged(client: Diffin, run: Trajectory, data: Data, tmp_path: Path) -> None:
    other = recorded(tmp_path / "run", data, seed=1).upload(client)
    each = [scores(client, answer(client, one, data, "diff_in")) for one in (run, other)]
    job = answer(client, [run, other], data, "diff_in")
    rows = list(client.scores(job, order="index"))
    np.testing.assert_allclose([row.score for row in rows], np.mean(each, axis=0), rtol=1e-9, atol=1e-15)
    error = np.std(each, axis=0, ddof=1) / 2**0.5
    found = np.array([row.standard_error for row in rows], dtype=float)
    np.testing.assert_allclose(found, error, rtol=1e-6, atol=1e-12)
    assert (job.trajectory_id, job.trajectory_ids) == (None, (run.id, other.id))
    result = job.result or {}
    assert result["uncertainty"] == {"over": "trajectories", "count": 2}
    assert 0 < result["stability"]["20"] < 1
    one = client.score(job, 7)
    assert [part.step for part in one.contributions] == [0, 8, 16, 0, 8, 16]
    assert [part.trajectory_id for part in one.contributions] == [run.id] * 3 + [other.id] * 3
    assert sum(part.contribution for part in one.contributions) == pytest.approx(one.score, rel=1e-12)
    # the columns beside the score are the last trajectory's
    alone = answer(client, other, data, "diff_in")
    assert [row.loss for row in rows] == [row.loss for row in client.scores(alone, order="index")]


def test_repeats_tell_how_much_a_draw_matters(client: Diffin, run: Trajectory, data: Data) -> None:
    method = {"name": "diff_in", "hessian_samples": 20}
    each = [
        scores(client, client.wait(client.submit(run, data.train, data.query, method=method, seed=seed)))
        for seed in (3, 4, 5)
    ]
    job = client.wait(client.submit(run, data.train, data.query, method=method | {"uncertainty": 3}, seed=3))
    rows = list(client.scores(job, order="index"))
    np.testing.assert_allclose([row.score for row in rows], np.mean(each, axis=0), rtol=1e-9, atol=1e-15)
    error = np.std(each, axis=0, ddof=1) / 3**0.5
    found = np.array([row.standard_error for row in rows], dtype=float)
    np.testing.assert_allclose(found, error, rtol=1e-6, atol=1e-12)
    result = job.result or {}
    assert result["uncertainty"] == {"over": "repeats", "count": 3}
    assert 0 < result["stability"]["100"] <= 1
    assert job.progress.completed == job.progress.total
    one = client.score(job, 7)
    assert sum(part.contribution for part in one.contributions) == pytest.approx(one.score, rel=1e-12)


def test_influence_can_be_measured_on_some_tensors_only(
    client: Diffin, recorder: Recorder, run: Trajectory, data: Data
) -> None:
    only = {"include": ["layers.1.*"]}
    asked = {"name": "tracin", "parameters": only}
    job = answer(client, run, data, asked)
    # without the last layer, and with it alone: first-order influences add up to those on all tensors
    rest = answer(client, run, data, {"name": "tracin", "parameters": {"exclude": ["layers.1.*"]}})
    whole = scores(client, answer(client, run, data, "tracin"))
    parts = scores(client, job) + scores(client, rest)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())
    assert not np.allclose(scores(client, job), whole)
    assert (job.method or {})["parameters"] == {"include": ["layers.1.*"], "exclude": []}


def adam_run(folder: Path, data: Data, *, whole: bool) -> Recorder:
    torch.manual_seed(0)
    model = build("mlp", CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    recorder = Recorder(
        name="adam",
        architecture={"name": "mlp", "config": CONFIG},
        optimizer=optimizer,
        optimizer_state=whole,
        directory=folder,
        every=4,
    )
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    for step in range(1, 9):
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(model(x), y))
        optimizer.step()
        recorder.step(model, step, 0.01)
    recorder.finish(model)
    return recorder


@pytest.mark.parametrize("whole", [True, False], ids=["with its state", "without"])
def test_adams_steps_are_followed_where_its_state_is_known(
    client: Diffin, data: Data, tmp_path: Path, whole: bool
) -> None:
    run = adam_run(tmp_path / "run", data, whole=whole).upload(client)
    job = answer(client, run, data, "diff_in")
    assert (job.result or {})["rank_only"] is True
    assert ("optimizer_ignored" in codes(job)) is not whole
    assert "optimizer_ignored" in codes(answer(client, run, data, "tracin"))


def test_a_file_that_is_refused_says_why(
    client: Diffin, recorder: Recorder, data: Data, tmp_path: Path
) -> None:
    made = client.create_trajectory(**recorder.recording.run)
    np.save(tmp_path / "order.npy", np.zeros((3, 2)))
    client.upload_batch_order(made, tmp_path / "order.npy")
    with pytest.raises(InputInvalid, match="no integers"):
        client.ready(made)
    client.delete_batch_order(made)
    kept = recorder.recording.checkpoints[1]
    state = load_file(recorder.directory / (kept.optimizer_file or ""))
    state["momentum_buffer.layers.0.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "state.safetensors")
    client.upload_checkpoint(
        made,
        recorder.directory / kept.file,
        step=kept.step,
        learning_rate=kept.learning_rate,
        optimizer_file=tmp_path / "state.safetensors",
    )
    with pytest.raises(InputInvalid, match=r"momentum_buffer\.layers\.0\.bias") as refused:
        client.ready(made)
    assert refused.value.errors[0]["pointer"] == "/momentum_buffer.layers.0.bias"


def test_without_queries_suspicion_follows_the_mean_loss(client: Diffin, run: Trajectory, data: Data) -> None:
    job = client.wait(client.submit(run, data.train, method="loss"))
    rows = list(client.scores(job, order="suspicion"))
    assert [row.sample_index for row in rows] == [
        row.sample_index for row in client.scores(job, order="harmful")
    ]
    found = np.array([row.suspicion for row in rows], dtype=float)
    np.testing.assert_allclose(found, (SAMPLES - 0.5 - np.arange(SAMPLES)) / SAMPLES)


def test_queries_add_what_the_last_checkpoint_says(client: Diffin, run: Trajectory, data: Data) -> None:
    job = answer(client, run, data, "diff_in")
    details = [client.score(job, index) for index in range(SAMPLES)]
    harmful = torch.tensor([detail.contributions[-1].contribution for detail in details])
    found = np.array([detail.suspicion for detail in details], dtype=float)
    losses = torch.tensor([[part.loss for part in detail.contributions] for detail in details]).T
    np.testing.assert_allclose(found, suspicion(losses, harmful), atol=1e-12)
    assert not np.allclose(found, suspicion(losses))


def test_numbers_are_not_suspicious(client: Diffin, data: Data, tmp_path: Path) -> None:
    config = {"in_features": 64, "num_classes": 1}
    made = client.create_trajectory(
        name="regression",
        architecture={"name": "linear", "config": config},
        task={"type": "regression", "loss": "mse"},
    )
    save_file(build("linear", config).state_dict(), tmp_path / "5.safetensors")
    client.upload_checkpoint(made, tmp_path / "5.safetensors", step=5, learning_rate=0.1)
    train = client.upload_dataset(inputs=data.x, targets=data.y.astype(np.float32), name="numbers")
    job = client.wait(client.submit(made, train, method="loss"))
    assert next(client.scores(job)).suspicion is None
    with pytest.raises(DiffinError) as refused:
        next(client.scores(job, order="suspicion"))
    assert refused.value.code == "not_computed"
