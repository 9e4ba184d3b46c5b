"""Training by the service from Python and from the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from diffin import Diffin, DiffinError
from diffin.cli import main
from diffin.models import Dataset, Job
from tests.client.conftest import CONFIG
from tests.services import Service

LINEAR = {"name": "linear", "config": CONFIG}
RECIPE = {"schedule": {"name": "constant", "learning_rate": 0.5}, "batch_size": 100, "epochs": 2}


def test_a_run_is_trained_and_scored_in_a_few_lines(
    client: Diffin, training: Dataset, query: Dataset
) -> None:
    seen: list[Job] = []
    job = client.train(training, architecture=LINEAR, recipe=RECIPE, query=query, checkpoints=4, name="mine")
    run = client.trained(job, progress=seen.append)
    assert [one.step for one in run.checkpoints] == [0, 6, 11, 16, 22]
    assert (run.name, run.train_size, run.total_steps) == ("mine", training.num_samples, 22)
    assert (job.type, job.total_steps, job.checkpoints) == ("train", 22, (0, 6, 11, 16, 22))
    assert seen[-1].result is not None and seen[-1].result["query"]["accuracy"] > 0.8
    done = client.wait(client.submit(run, training, query, method={"name": "diff_in", "resolution": "steps"}))
    assert (done.result or {})["answers"] == "this_run"
    again = client.trained(client.train(training, trajectory=run, checkpoints={"every": 11}))
    assert [one.step for one in again.checkpoints] == [0, 11, 22]
    assert job.id in [one.id for one in client.jobs(type="train", limit=5)]


def test_a_recipe_that_is_refused_says_why(client: Diffin, training: Dataset) -> None:
    with pytest.raises(DiffinError, match="drop_last"):
        client.train(training, architecture=LINEAR, recipe=RECIPE | {"batch_size": 5000, "drop_last": True})


def test_train_in_the_shell_prints_the_job_and_the_run(
    embedded_service: Service, client: Diffin, training: Dataset, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(RECIPE))
    shell = CliRunner(env={"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key})
    given = ["--data", training.id, "--architecture", "linear", "--config", json.dumps(CONFIG)]
    result = shell.invoke(main, ["train", *given, "--recipe", str(recipe), "--every", "11", "--wait"])
    assert result.exit_code == 0, result.output
    job, run = result.stdout.split()
    assert client.job(job).type == "train"
    assert [one.step for one in client.trajectory(run).checkpoints] == [0, 11, 22]
    refused = shell.invoke(main, ["train", *given, "--recipe", "{no json"])
    assert refused.exit_code != 0 and "--recipe" in refused.output
