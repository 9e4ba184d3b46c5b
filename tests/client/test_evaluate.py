"""How far to trust the scores on a run that the service trained: from Python and the shell."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from diffin import Diffin
from diffin.cli import main
from diffin.models import Dataset, Trajectory
from tests.client.conftest import CONFIG
from tests.services import Service

RECIPE = {
    "schedule": {"name": "constant", "learning_rate": 0.1},
    "batch_size": 100,
    "epochs": 2,
    "seed": 0,
}


@pytest.fixture(scope="module")
def run(client: Diffin, training: Dataset) -> Trajectory:
    job = client.train(
        training, architecture={"name": "linear", "config": CONFIG}, recipe=RECIPE, checkpoints=2
    )
    return client.trained(job)


def test_a_verdict_comes_with_what_it_follows_from(
    client: Diffin, run: Trajectory, training: Dataset, query: Dataset
) -> None:
    methods: list[str | dict[str, str]] = ["tracin", {"name": "diff_in", "resolution": "steps"}]
    job = client.wait(client.evaluate(run, training, query, methods=methods, leave_one_out=12, subsets=10))
    result = job.result or {}
    assert result["verdict"]["level"] in ("trustworthy", "ranking_only")
    assert result["verdict"]["best_method"] == "diff_in"
    pairs = client.evaluation(job)
    assert (len(pairs["leave_one_out"]), len(pairs["subsets"])) == (12, 10)
    for one in pairs["leave_one_out"]:
        assert one["predicted"]["diff_in"] == pytest.approx(one["true"], rel=0.2, abs=1e-6)


def test_the_shell_prints_the_verdict(
    embedded_service: Service, run: Trajectory, training: Dataset, query: Dataset
) -> None:
    shell = CliRunner(env={"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key})
    steps = json.dumps({"name": "diff_in", "resolution": "steps"})
    given = ["--train", training.id, "--query", query.id, "--trajectory", run.id, "--method", steps]
    done = shell.invoke(main, ["evaluate", *given, "--leave-one-out", "12", "--wait"])
    assert done.exit_code == 0, done.output
    job, verdict = done.stdout.splitlines()
    assert job.startswith("job_")
    assert verdict.startswith("trustworthy: Trust the scores of diff_in, ranking and size: Spearman ")
