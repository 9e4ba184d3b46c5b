"""Training by the service, over HTTP: from a data set and a recipe to a run that influence jobs take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tests import walk
from tests.services import Service
from tests.shapes import BOTH
from worker.influence.networks import build

SAMPLES, BATCH, EPOCHS, SEED = 240, 32, 3, 5
STEPS = EPOCHS * 8  # the last batch of an epoch is short
RECIPE: dict[str, Any] = {
    "optimizer": {"name": "sgd", "momentum": 0.5},
    "schedule": {"name": "linear", "learning_rate": 0.2, "warmup_steps": 2},
    "batch_size": BATCH,
    "epochs": EPOCHS,
    "seed": SEED,
}
REQUEST: dict[str, Any] = {
    "type": "train",
    "architecture": {"name": "mlp", "config": walk.MLP},
    "task": {"type": "classification", "loss": "cross_entropy"},
    "recipe": RECIPE,
    "checkpoints": {"count": 4},
    "seed": 7,
    "name": "from nothing",
}


@pytest.fixture(scope="module", params=BOTH)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    service: Service = request.getfixturevalue(request.param)
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def data(client: httpx.Client) -> dict[str, str]:
    x, y = walk.digits(SAMPLES)
    train = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
    query = walk.dataset(client, walk.npz(inputs=x[:50], targets=y[:50]))["id"]
    return {"train_dataset_id": train, "query_dataset_id": query}


def trained(client: httpx.Client, data: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A training job once it is finished."""
    posted = walk.ok(client.post("/v1/jobs", json=REQUEST | data | changes), 202)
    return walk.finished(client, posted["id"])


def run_of(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    assert job["status"] == "succeeded", job
    found: dict[str, Any] = walk.ok(client.get(f"/v1/trajectories/{job['result']['trajectory_id']}"), 200)
    return found


@pytest.fixture(scope="module")
def job(client: httpx.Client, data: dict[str, str]) -> dict[str, Any]:
    return trained(client, data)


def by_hand() -> tuple[list[dict[str, torch.Tensor]], list[float]]:
    """The states of the same run in a plain loop of torch's, and the losses of its batches."""
    x, y = (torch.from_numpy(a) for a in walk.digits(SAMPLES))
    torch.manual_seed(7)
    model = build("mlp", walk.MLP)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5)
    loader = DataLoader(
        TensorDataset(x, y), BATCH, shuffle=True, generator=torch.Generator().manual_seed(SEED)
    )
    states = [{name: t.clone() for name, t in model.state_dict().items()}]
    losses: list[float] = []
    for _ in range(EPOCHS):
        for inputs, targets in loader:
            t = len(losses)
            optimizer.param_groups[0]["lr"] = 0.1 * (t + 1) if t < 2 else 0.2 * (1 - (t - 2) / (STEPS - 2))
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs), targets)
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(loss.item())
            states.append({name: t.clone() for name, t in model.state_dict().items()})
    return states, losses


def test_a_job_trains_as_a_plain_loop_does(client: httpx.Client, job: dict[str, Any]) -> None:
    states, losses = by_hand()
    result = job["result"]
    np.testing.assert_allclose([point["loss"] for point in result["curve"]], losses, rtol=1e-4)
    x, y = walk.digits(SAMPLES)
    model = build("mlp", walk.MLP)
    model.load_state_dict(states[-1])
    outputs = model(torch.from_numpy(x)).detach()
    loss = float(cross_entropy(outputs, torch.from_numpy(y)))
    assert result["train"]["loss"] == pytest.approx(loss, rel=1e-4)
    assert result["train"]["accuracy"] == pytest.approx(
        float((outputs.argmax(1).numpy() == y).mean()), abs=0.01
    )
    assert result["query"]["loss"] > 0 and result["warnings"] == []
    assert (job["progress"]["completed"], job["progress"]["unit"]) == (STEPS, "steps")
    assert walk.events(client, job["id"])[-1] == "job.succeeded"


def test_its_trajectory_tells_all_that_others_tell(client: httpx.Client, job: dict[str, Any]) -> None:
    run = run_of(client, job)
    assert [one["step"] for one in run["checkpoints"]] == [0, 6, 12, 18, 24]
    assert all(one["status"] == "ready" for one in run["checkpoints"])
    assert [len(one["learning_rates"] or []) for one in run["checkpoints"]] == [0, 6, 6, 6, 6]
    carried = [(one["optimizer_file"] or {}).get("state") for one in run["checkpoints"]]
    assert carried == [None, *[["momentum_buffer"]] * 4]
    assert (run["train_size"], run["total_steps"], run["batch_size"]) == (SAMPLES, STEPS, BATCH)
    assert run["recipe"]["seed"] == SEED and run["optimizer"]["momentum"] == 0.5
    assert run["name"] == "from nothing"
    listed = walk.ok(client.get("/v1/trajectories"), 200)["data"]
    assert run["id"] in [one["id"] for one in listed]


def test_its_steps_are_replayed_at_once(
    client: httpx.Client, job: dict[str, Any], data: dict[str, str]
) -> None:
    asked = {"name": "diff_in", "resolution": "steps"}
    run = run_of(client, job)
    posted = walk.post_job(
        client, run["id"], data["train_dataset_id"], data["query_dataset_id"], method=asked
    )
    scored = walk.finished(client, walk.ok(posted, 202)["id"])
    assert scored["status"] == "succeeded", scored
    assert scored["result"]["answers"] == "this_run"
    assert scored["result"]["warnings"] == []
    assert [one.get("replay_drift", 0) for one in scored["result"]["checkpoints"]] == [0] * 5


def test_scores_of_a_job_that_trains_are_refused(client: httpx.Client, job: dict[str, Any]) -> None:
    for path in ("scores", "summary", "scores/1"):
        answer = walk.ok(client.get(f"/v1/jobs/{job['id']}/{path}"), 409)
        assert answer["code"] == "wrong_job_type"


def test_training_that_diverges_fails_in_words(client: httpx.Client, data: dict[str, str]) -> None:
    before = len(walk.ok(client.get("/v1/trajectories"), 200)["data"])
    recipe = RECIPE | {"schedule": {"name": "constant", "learning_rate": 1e30}}
    job = trained(client, data, recipe=recipe)
    assert (job["status"], job["error"]["code"], job["error"]["fault"]) == ("failed", "diverged", "user")
    assert "at step 2 of 24" in job["error"]["detail"] or "at step 1 of 24" in job["error"]["detail"]
    assert "Lower the learning rate" in job["error"]["detail"]
    assert len(walk.ok(client.get("/v1/trajectories"), 200)["data"]) == before


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (  # Adam's step is the rate over 1 - beta: beyond float32
            {
                "recipe": RECIPE
                | {
                    "optimizer": {"name": "adam", "betas": [1 - 1e-12, 0.999]},
                    "schedule": {"name": "constant", "learning_rate": 1e29},
                }
            },
            "diverged",
            "at step 1 of 24",
        ),
        (
            {"preprocessing": {"scale": 1e38, "std": [1e-30]}},
            "diverged",
            "at the initial weights, before any step",
        ),
    ],
)
def test_a_first_step_that_fails_says_what_failed(
    client: httpx.Client, data: dict[str, str], changes: dict[str, Any], code: str, words: str
) -> None:
    job = trained(client, data, **changes)
    assert (job["status"], job["error"]["code"], job["error"]["fault"]) == ("failed", code, "user"), job
    assert words in job["error"]["detail"]


def digests(run: dict[str, Any]) -> dict[int, tuple[str, str | None]]:
    """Of each checkpoint's tensors, and of what its optimizer carried, by step."""
    return {
        one["step"]: (one["sha256"], (one["optimizer_file"] or {}).get("sha256"))
        for one in run["checkpoints"]
    }


def contributions(client: httpx.Client, job: dict[str, Any], samples: range) -> np.ndarray:
    """[checkpoints, samples] of a job over one run."""
    rows = [walk.ok(client.get(f"/v1/jobs/{job['id']}/scores/{at}"), 200) for at in samples]
    return np.array([[part["contribution"] for part in row["contributions"]] for row in rows]).T


def test_states_kept_at_every_step_are_those_that_are_replayed(
    client: httpx.Client, job: dict[str, Any], data: dict[str, str]
) -> None:
    few, every = run_of(client, job), run_of(client, trained(client, data, checkpoints={"every": 1}))
    kept = [one["step"] for one in few["checkpoints"]]
    assert [one["step"] for one in every["checkpoints"]] == list(range(STEPS + 1))
    assert {step: found for step, found in digests(every).items() if step in kept} == digests(few)
    parts = []
    for run in (few, every):
        method = {"name": "diff_in", "resolution": "steps"}
        posted = walk.post_job(client, run["id"], *data.values(), method=method)
        scored = walk.finished(client, walk.ok(posted, 202)["id"])
        parts.append(contributions(client, scored, range(0, SAMPLES, 6)))
    summed = []
    for before, stop in pairwise([0, *kept]):  # in the order in which a replay adds them up, last step first
        total = np.zeros(parts[1].shape[1])
        for step in range(stop, before, -1):
            total = total + parts[1][step]
        summed.append(total)
    np.testing.assert_array_equal(parts[0], summed)
    assert np.abs(parts[0]).max() > 0


def test_a_trajectory_is_trained_once_more_as_it_was(
    client: httpx.Client, job: dict[str, Any], data: dict[str, str]
) -> None:
    run = run_of(client, job)
    only = {
        "type": "train",
        "trajectory_id": run["id"],
        "checkpoints": {"steps": [6, 12, 18]},
        "name": "again",
    }
    # by its recipe; then without a schedule and an optimizer, which its checkpoints and itself tell
    for recipe in ({}, {"recipe": {"batch_size": BATCH, "epochs": EPOCHS, "seed": SEED}}):
        again = walk.finished(client, walk.ok(client.post("/v1/jobs", json=only | data | recipe), 202)["id"])
        assert (again["trajectory_id"], again["seed"]) == (run["id"], None)
        assert digests(run_of(client, again)) == digests(run)
    other = walk.finished(client, walk.ok(client.post("/v1/jobs", json=only | data | {"seed": 8}), 202)["id"])
    assert digests(run_of(client, other))[0] != digests(run)[0]
    # the run that it was told by is in use until the job goes
    walk.ok(client.delete(f"/v1/trajectories/{run['id']}"), 409)


def test_batch_norm_is_frozen_and_said_to_be(client: httpx.Client, data: dict[str, str]) -> None:
    x, y = walk.digits(SAMPLES)
    images = walk.dataset(client, walk.npz(inputs=x.reshape(-1, 1, 8, 8), targets=y))["id"]
    config = {"in_channels": 1, "num_classes": 10, "channels": [4], "norm": "batch"}
    job = trained(
        client,
        {"train_dataset_id": images},
        architecture={"name": "cnn", "config": config},
        recipe=RECIPE | {"epochs": 1},
    )
    assert [one["code"] for one in job["result"]["warnings"]] == ["batch_norm_frozen"]
    run = run_of(client, job)
    method = {"name": "diff_in", "resolution": "steps"}
    posted = walk.post_job(client, run["id"], images, images, method=method)
    scored = walk.finished(client, walk.ok(posted, 202)["id"])
    assert [one.get("replay_drift", 0) for one in scored["result"]["checkpoints"]] == [0] * 5


def test_a_cancelled_job_leaves_no_trajectory(client: httpx.Client, data: dict[str, str]) -> None:
    recipe = {name: value for name, value in RECIPE.items() if name != "epochs"} | {"total_steps": 500_000}
    body = REQUEST | data | {"recipe": recipe, "name": "never ends"}
    job = walk.ok(client.post("/v1/jobs", json=body), 202)
    walk.until(client, f"/v1/jobs/{job['id']}", {"running"})
    end = time.monotonic() + 60
    while walk.ok(client.get(f"/v1/jobs/{job['id']}"), 200)["progress"]["completed"] == 0:
        assert time.monotonic() < end
        time.sleep(0.1)
    walk.ok(client.post(f"/v1/jobs/{job['id']}/cancel"), 202)
    assert walk.finished(client, job["id"])["status"] == "cancelled"
    names = [one["name"] for one in walk.ok(client.get("/v1/trajectories"), 200)["data"]]
    assert "never ends" not in names
    walk.ok(client.delete(f"/v1/jobs/{job['id']}"), 204)


def test_a_language_model_is_trained_from_its_config(client: httpx.Client) -> None:
    tokens = (
        np.random.default_rng(0).integers(1, 5, (60, 1)) + np.arange(8) % 4
    )  # each told by the one before
    texts = walk.dataset(client, walk.npz(inputs=tokens, targets=tokens))["id"]
    config = {
        "vocab_size": 9,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 8,
        "pad_token_id": None,
    }
    job = trained(
        client,
        {"train_dataset_id": texts},
        architecture={"name": "hf/gpt2", "config": config},
        task={"type": "causal_lm", "loss": "cross_entropy"},
        recipe={
            "optimizer": {"name": "adamw", "weight_decay": 0.01},
            "schedule": {"name": "constant", "learning_rate": 0.01},
            "batch_size": 12,
            "epochs": 8,
        },
    )
    assert job["status"] == "succeeded", job["error"]
    result = job["result"]
    assert result["train"]["loss"] < 0.6 * result["curve"][0]["loss"]
    assert 0.5 < result["train"]["accuracy"] <= 1
    method = {"name": "diff_in", "resolution": "steps"}
    posted = walk.post_job(client, run_of(client, job)["id"], texts, texts, method=method)
    scored = walk.finished(client, walk.ok(posted, 202)["id"])
    assert [one.get("replay_drift", 0) for one in scored["result"]["checkpoints"]] == [0] * 5
