"""How far to trust the scores on a run, by retraining, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.torch import save
from scipy.stats import spearmanr

from tests import walk
from tests.services import Service
from tests.shapes import BOTH

SAMPLES, BATCH, EPOCHS = 240, 30, 8
CONFIG = walk.MLP | {"hidden": [16]}
ARCHITECTURE = {"name": "mlp", "config": CONFIG}
TASK = {"type": "classification", "loss": "cross_entropy"}
STEPS = EPOCHS * SAMPLES // BATCH
STEPWISE = {"name": "diff_in", "resolution": "steps"}


@pytest.fixture(scope="module", params=BOTH)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    service: Service = request.getfixturevalue(request.param)
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def data(client: httpx.Client) -> dict[str, str]:
    x, y = walk.digits(SAMPLES + 100)
    ids = np.array([f"digit-{row}" for row in range(SAMPLES)])
    train = walk.dataset(client, walk.npz(inputs=x[:SAMPLES], targets=y[:SAMPLES], ids=ids))["id"]
    query = walk.dataset(client, walk.npz(inputs=x[SAMPLES:], targets=y[SAMPLES:]))["id"]
    return {"train_dataset_id": train, "query_dataset_id": query}


def recipe(rate: float, **optimizer: Any) -> dict[str, Any]:
    schedule = {"name": "constant", "learning_rate": rate}
    optimizer = {"name": "sgd"} | optimizer
    return {"optimizer": optimizer, "schedule": schedule, "batch_size": BATCH, "epochs": EPOCHS, "seed": 5}


def trained(client: httpx.Client, data: dict[str, str], rate: float, **optimizer: Any) -> str:
    """A run recorded by the service itself."""
    body = {"type": "train", "architecture": ARCHITECTURE, "task": TASK, "recipe": recipe(rate, **optimizer)}
    body |= {"train_dataset_id": data["train_dataset_id"], "checkpoints": {"count": 4}}
    job = walk.finished(client, walk.ok(client.post("/v1/jobs", json=body), 202)["id"])
    assert job["status"] == "succeeded", job
    run: str = job["result"]["trajectory_id"]
    return run


@pytest.fixture(scope="module")
def stable(client: httpx.Client, data: dict[str, str]) -> str:
    return trained(client, data, 0.1)


def asked(run: str, data: dict[str, str], **changes: Any) -> dict[str, Any]:
    body = {"type": "evaluate", "trajectory_id": run, "leave_one_out": 20}
    return body | {"methods": [{"name": "diff_in"}, {"name": "tracin"}]} | data | changes


def evaluated(client: httpx.Client, run: str, data: dict[str, str], **changes: Any) -> dict[str, Any]:
    posted = walk.ok(client.post("/v1/jobs", json=asked(run, data, **changes)), 202)
    job = walk.finished(client, posted["id"])
    assert job["status"] == "succeeded", job
    return job


@pytest.fixture(scope="module")
def job(client: httpx.Client, stable: str, data: dict[str, str]) -> dict[str, Any]:
    methods = [{"name": "diff_in"}, STEPWISE, {"name": "tracin"}]
    return evaluated(client, stable, data, methods=methods, subsets=12)


def test_a_stable_run_is_to_be_trusted(client: httpx.Client, job: dict[str, Any]) -> None:
    result = job["result"]
    assert result["methods"].keys() == {"diff_in", "diff_in:2", "tracin"}
    assert result["verdict"]["level"] in ("trustworthy", "ranking_only")
    assert "leave-one-out retrainings of this run" in result["verdict"]["text"]
    assert result["verdict"]["best_method"] in result["methods"]
    assert result["methods"]["diff_in:2"]["leave_one_out"]["spearman"] > 0.9
    assert result["exact"]["leave_one_out"] == result["methods"]["diff_in:2"]["leave_one_out"]
    answers = {name: one["answers"] for name, one in result["methods"].items()}
    assert answers == {"diff_in": "expected", "diff_in:2": "this_run", "tracin": "expected"}
    assert (result["answers"], result["orders"], result["diverged"]) == ("this_run", 1, 0)
    assert result["reproduces"] is True and result["drift"] == 0 and result["difference"] == 0
    assert result["noise"]["dtype"] == "float64" and result["noise"]["floor"] < 1e-12
    runs = 2 + (1 + 20) + 12
    assert result["retrainings"] == runs
    assert job["progress"] == {
        "completed": runs + 1, "total": runs + 1, "unit": "retrainings", "message": "succeeded"
    }  # fmt: skip
    assert walk.events(client, job["id"])[-1] == "job.succeeded"


def test_the_figures_follow_from_the_pairs(client: httpx.Client, job: dict[str, Any]) -> None:
    pairs = walk.ok(client.get(f"/v1/jobs/{job['id']}/evaluation"), 200)
    indices = [one["sample_index"] for one in pairs["leave_one_out"]]
    assert indices == sorted(set(indices)) and len(indices) == 20
    assert [one["sample_id"] for one in pairs["leave_one_out"]] == [f"digit-{row}" for row in indices]
    assert len(pairs["subsets"]) == 12
    for name, method in job["result"]["methods"].items():
        for part, rows in (("leave_one_out", pairs["leave_one_out"]), ("lds", pairs["subsets"])):
            figures = method[part]
            true, predicted = zip(*((one["true"], one["predicted"][name]) for one in rows), strict=True)
            assert figures["spearman"] == pytest.approx(spearmanr(predicted, true).statistic, rel=1e-9)
            assert figures["n"] == len(rows)
            low, high = figures["spearman_interval"]
            assert low <= figures["spearman"] <= high


def test_what_was_predicted_is_what_an_influence_job_scores(
    client: httpx.Client, job: dict[str, Any], stable: str, data: dict[str, str]
) -> None:
    pairs = walk.ok(client.get(f"/v1/jobs/{job['id']}/evaluation"), 200)["leave_one_out"]
    posted = walk.post_job(client, stable, data["train_dataset_id"], data["query_dataset_id"])
    scored = walk.finished(client, walk.ok(posted, 202)["id"])
    rows = walk.scores(client, scored["id"])
    for one in pairs:
        assert one["predicted"]["diff_in"] == rows[one["sample_index"]]["score"]


def test_an_unstable_run_is_not_to_be_trusted(client: httpx.Client, data: dict[str, str]) -> None:
    verdict = evaluated(client, trained(client, data, 1.5), data, leave_one_out=40)["result"]["verdict"]
    assert verdict["level"] == "unreliable"
    assert "Use a lower learning rate" in verdict["text"]


def test_the_truth_may_be_about_the_average(client: httpx.Client, stable: str, data: dict[str, str]) -> None:
    result = evaluated(client, stable, data, orders=2, sampling="mixed")["result"]
    assert (result["answers"], result["orders"]) == ("expected", 2)
    assert 0 < result["reliability"] <= 1
    assert result["retrainings"] == 2 + 2 * 21
    assert "averaged over 2 batch orders" in result["verdict"]["text"]


def test_sizes_of_scores_mean_nothing_with_adam(client: httpx.Client, data: dict[str, str]) -> None:
    run = trained(client, data, 0.002, name="adam")
    result = evaluated(client, run, data, methods=[STEPWISE])["result"]
    assert result["reproduces"] is True
    assert result["verdict"]["level"] in ("ranking_only", "undecided")
    assert "Adam's steps" in result["methods"]["diff_in"]["rank_only"]


def test_a_run_that_comes_out_otherwise_is_told(
    client: httpx.Client, stable: str, data: dict[str, str]
) -> None:
    x, y = walk.digits(SAMPLES)
    other = walk.dataset(client, walk.npz(inputs=x, targets=y[::-1].copy()))["id"]
    result = evaluated(client, stable, data | {"train_dataset_id": other})["result"]
    assert result["reproduces"] is False and result["drift"] > 0.01
    assert "did not reproduce the recorded run" in result["verdict"]["text"]


def test_what_can_not_be_trained_again_is_refused(
    client: httpx.Client, stable: str, data: dict[str, str]
) -> None:
    def refused(run: str, code: str, words: str, **changes: Any) -> None:
        for path in ("/v1/jobs", "/v1/jobs/estimate"):
            problem = walk.ok(client.post(path, json=asked(run, data, **changes)), 422)
            assert problem["code"] == code
            assert words in problem["detail"] + str(problem["errors"])

    known: dict[str, Any] = {"config": CONFIG, "train_size": SAMPLES}
    state = save(walk.mlp_state(0, (64, 16, 10)))
    without = {name: value for name, value in recipe(0.1).items() if name != "seed"}
    recipes = {"plain": None, "seedless": without, "late": recipe(0.1)}
    runs = {}
    for name, one in recipes.items():
        runs[name] = walk.trajectory(client, **known | ({"recipe": one} if one else {}))
        walk.checkpoint(client, runs[name], state, STEPS)
    refused(runs["plain"], "recipe_required", "optimizer, batch_size, epochs or total_steps, seed")
    refused(runs["seedless"], "batch_order_required", "batch-order")
    refused(runs["late"], "initial_state_required", "the checkpoint of step 0")
    refused(stable, "too_many_retrainings", "240 samples", leave_one_out=241)
    refused(stable, "validation_error", "nothing to compare", leave_one_out=0)
    refused(stable, "validation_error", "fewer than 10", subsets=5)
    refused(stable, "validation_error", "per_query", methods=[{"name": "tracin", "per_query": True}])


def test_its_cost_is_told_before_and_follows_from_the_retrainings(
    client: httpx.Client, job: dict[str, Any], stable: str, data: dict[str, str]
) -> None:
    few, many = (
        walk.ok(client.post("/v1/jobs/estimate", json=asked(stable, data, leave_one_out=n)), 200)
        for n in (20, 120)
    )
    more = many["forward_passes"] - few["forward_passes"]
    assert more == 100 * (STEPS * BATCH * 3 + 100)  # each trains on every batch and meets the queries
    assert few["basis"] == "trajectory" and few["seconds"] > 0


def test_answers_of_other_jobs_are_told_apart(
    client: httpx.Client, job: dict[str, Any], stable: str, data: dict[str, str]
) -> None:
    assert walk.ok(client.get(f"/v1/jobs/{job['id']}/scores"), 409)["code"] == "wrong_job_type"
    posted = walk.post_job(client, stable, data["train_dataset_id"], data["query_dataset_id"])
    other = walk.finished(client, walk.ok(posted, 202)["id"])
    assert walk.ok(client.get(f"/v1/jobs/{other['id']}/evaluation"), 409)["code"] == "wrong_job_type"
    listed = walk.ok(client.get("/v1/jobs", params={"type": "evaluate"}), 200)["data"]
    assert {one["type"] for one in listed} == {"evaluate"}


def test_a_job_that_is_cancelled_stops(client: httpx.Client, stable: str, data: dict[str, str]) -> None:
    posted = walk.ok(client.post("/v1/jobs", json=asked(stable, data, leave_one_out=200, subsets=200)), 202)
    walk.ok(client.post(f"/v1/jobs/{posted['id']}/cancel"), 202)
    assert walk.finished(client, posted["id"])["status"] == "cancelled"
    answer = walk.ok(client.get(f"/v1/jobs/{posted['id']}/evaluation"), 409)
    assert answer["code"] == "job_not_finished"
    walk.ok(client.delete(f"/v1/jobs/{posted['id']}"), 204)
