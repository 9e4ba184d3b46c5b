"""`diffin` in the shell: the answers it prints, and errors in words with exit status 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from diffin import Diffin
from diffin.cli import main
from diffin.models import Dataset, Job, Trajectory
from diffin.recording import Recording
from tests.client.conftest import Arrays
from tests.servers import free_port
from tests.services import Service

GPT2 = json.dumps(
    {"vocab_size": 9, "n_embd": 4, "n_layer": 1, "n_positions": 8, "pad_token_id": None, "n_head": 2}
)


@pytest.fixture
def diffin(embedded_service: Service, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner(env={"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key})


def printed(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_submit_sends_files_and_prints_the_most_harmful(
    diffin: CliRunner, recording: Path, arrays: Arrays, tmp_path: Path
) -> None:
    train, query = tmp_path / "train.npz", tmp_path / "query.npz"
    np.savez(train, inputs=arrays.inputs, targets=arrays.targets)
    np.savez(query, inputs=arrays.query_inputs, targets=arrays.query_targets)
    given = ["--train", str(train), "--query", str(query), "--trajectory", str(recording)]
    out = printed(diffin.invoke(main, ["submit", *given, "-o", "lanczos_steps=5", "--wait"]))
    job, heading, *rows = out.splitlines()
    assert job.startswith("job_") and heading.split()[:3] == ["rank", "sample", "score"]
    assert [row.split()[0] for row in rows] == [str(rank) for rank in range(1, 21)]
    assert {int(row.split()[1]) for row in rows[:10]} & set(range(10))


def test_submit_takes_what_was_uploaded_before_by_its_id(
    diffin: CliRunner, trajectory: Trajectory, training: Dataset
) -> None:
    given = ["--train", training.id, "--trajectory", trajectory.id, "--method", "loss", "-o", "which=last"]
    job = printed(diffin.invoke(main, ["submit", *given])).strip()
    assert diffin.invoke(main, ["wait", job]).exit_code == 0
    assert "succeeded" in printed(diffin.invoke(main, ["status", job]))


def test_waiting_for_what_is_no_job_says_so_and_draws_nothing(diffin: CliRunner) -> None:
    for given, told in (("x", "'x' is no id"), ("job_x", "job_x")):
        ran = diffin.invoke(main, ["wait", given])
        assert ran.exit_code == 1
        assert told in ran.stderr
        assert ran.stderr.lstrip().startswith("Error:") and "0:00:00" not in ran.stderr


def test_submit_averages_several_runs(
    diffin: CliRunner, trajectory: Trajectory, recording: Path, training: Dataset, query: Dataset
) -> None:
    sent = Recording.open(recording)
    sent.uploaded = None
    with Diffin(diffin.env["DIFFIN_URL"], diffin.env["DIFFIN_API_KEY"]) as client:
        again = client.ready(sent.upload(client))
        given = ["--train", training.id, "--query", query.id, "--method", "tracin"]
        runs = ["--trajectory", trajectory.id, "--trajectory", again.id]
        job = printed(diffin.invoke(main, ["submit", *given, *runs])).strip()
        assert client.wait(job).trajectory_ids == (trajectory.id, again.id)


def test_influences_prints_both_sides_of_a_query(
    diffin: CliRunner, trajectory: Trajectory, training: Dataset, query: Dataset
) -> None:
    given = ["--train", training.id, "--query", query.id, "--trajectory", trajectory.id]
    asked = ["--method", "tracin", "-o", "per_query=true", "-o", "top_k=5"]
    job = printed(diffin.invoke(main, ["submit", *given, *asked])).strip()
    assert diffin.invoke(main, ["wait", job]).exit_code == 0
    lines = printed(diffin.invoke(main, ["influences", job, "3", "-n", "2"])).splitlines()
    heads = [line.split()[0] for line in lines]
    assert heads == ["opponents", "1", "2", "proponents", "1", "2"]
    first = [float(line.split()[2]) for line in lines if line.split()[0] == "1"]
    assert first[0] > 0 > first[1]


def test_an_estimate_asks_nothing(
    diffin: CliRunner, trajectory: Trajectory, training: Dataset, query: Dataset
) -> None:
    before = printed(diffin.invoke(main, ["jobs"]))
    given = ["--train", training.id, "--query", query.id, "--trajectory", trajectory.id, "--estimate"]
    assert json.loads(printed(diffin.invoke(main, ["submit", *given])))["forward_passes"] > 0
    assert printed(diffin.invoke(main, ["jobs"])) == before


def test_top_prints_rows_as_json_for_other_programs(diffin: CliRunner, job: Job) -> None:
    lines = printed(diffin.invoke(main, ["top", job.id, "--limit", "3", "--order", "helpful", "--json"]))
    scores = [json.loads(line)["score"] for line in lines.splitlines()]
    assert len(scores) == 3 and scores == sorted(scores)


def test_jobs_and_data_sets_are_listed(diffin: CliRunner, job: Job, training: Dataset) -> None:
    assert job.id in printed(diffin.invoke(main, ["jobs", "-n", "1000"]))
    assert training.id in printed(diffin.invoke(main, ["datasets", "-n", "1000"]))


def test_cancelling_what_has_ended_is_refused_in_words(diffin: CliRunner, job: Job) -> None:
    result = diffin.invoke(main, ["cancel", job.id])
    assert result.exit_code == 1 and result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


def test_a_refused_option_is_named(
    diffin: CliRunner, trajectory: Trajectory, training: Dataset, query: Dataset
) -> None:
    given = ["--train", training.id, "--query", query.id, "--trajectory", trajectory.id]
    result = diffin.invoke(main, ["submit", *given, "-o", "lanczos_steps=0"])
    assert result.exit_code == 1 and "lanczos_steps" in result.stderr


def test_a_service_that_is_not_there_is_said_in_words() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = CliRunner().invoke(main, ["--url", url, "--key", "key", "jobs"])
    assert result.exit_code == 1 and "is the service running there?" in result.stderr


def test_a_folder_without_a_recording_is_said_in_words(diffin: CliRunner, tmp_path: Path) -> None:
    result = diffin.invoke(main, ["submit", "--train", "ds_1", "--trajectory", str(tmp_path)])
    assert result.exit_code == 1 and "trajectory.json" in result.stderr


def test_network_prints_the_tensors_expected() -> None:
    config = json.dumps({"in_features": 64, "hidden": [32], "num_classes": 10})
    assert printed(CliRunner().invoke(main, ["network", "mlp", "--config", config])).splitlines() == [
        "layers.0.weight  float32 [32, 64]",
        "layers.0.bias  float32 [32]",
        "layers.1.weight  float32 [10, 32]",
        "layers.1.bias  float32 [10]",
    ]


def test_network_prints_the_tensors_of_a_language_model_for_its_task() -> None:
    asked = ["network", "hf/gpt2", "--config", GPT2]
    classifier = printed(CliRunner().invoke(main, asked)).splitlines()
    assert classifier[0] == "transformer.wte.weight  float32 [9, 4]"
    assert classifier[-1] == "score.weight  float32 [2, 4]"
    told = printed(CliRunner().invoke(main, [*asked, "--task", "causal_lm"])).splitlines()
    assert told == classifier[:-1]  # the head is tied to the embedding, and saved with it


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["no-such"], "there are linear, mlp, cnn"),
        (["mlp", "--config", '{"in_features": 64}'], "num_classes"),
        (["mlp", "--config", "{"], "--config"),
        (["hf/gpt2", "--config", GPT2.replace("2}", "3}")], "num_heads"),
    ],
)
def test_network_says_what_is_wrong_with_a_config(given: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["network", *given])
    assert result.exit_code != 0 and words in result.stderr


def test_the_version_is_told() -> None:
    assert printed(CliRunner().invoke(main, ["--version"])).startswith("diffin, version 0.")


@pytest.mark.parametrize("given", ["", "../datasets", "job 1"])
def test_what_is_no_id_is_refused_before_it_is_sent(diffin: CliRunner, given: str) -> None:
    result = diffin.invoke(main, ["status", given])
    assert result.exit_code == 1 and "is no id" in result.output


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--method", "astrology"], "no method is called 'astrology'"),
        (["-o", "colour=1"], "diff_in has no option colour"),
        (["--train", "nope.npz"], "there is no file nope.npz"),
    ],
)
def test_submit_checks_what_it_can_before_it_sends(
    diffin: CliRunner, recording: Path, training: Dataset, more: list[str], words: str
) -> None:
    given = ["--train", training.id, "--trajectory", str(recording), *more]
    result = diffin.invoke(main, ["submit", *given])
    assert result.exit_code != 0 and words in result.output
