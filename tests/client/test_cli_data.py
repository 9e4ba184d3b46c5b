"""`diffin` in the shell with tables and text: how they are read is told once, and holds for both sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from diffin import Diffin
from diffin.cli import main
from diffin.models import Dataset, Trajectory
from tests.services import Service
from tests.worker.loading.test_text import tokenizer

RECIPE = json.dumps(
    {"schedule": {"name": "constant", "learning_rate": 0.1}, "batch_size": 4, "epochs": 2, "seed": 0}
)
COLUMNS = json.dumps({"inputs": ["age", "job"], "targets": "income"})


@pytest.fixture
def diffin(embedded_service: Service, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner(env={"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key})


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_a_table_is_trained_on_and_asked_about(diffin: CliRunner, client: Diffin, tmp_path: Path) -> None:
    train, query = tmp_path / "people.csv", tmp_path / "others.csv"
    rows = [f"{20 + 5 * i},{['baker', 'clerk'][i % 2]},{['poor', 'rich'][i // 6]}" for i in range(12)]
    train.write_text("\n".join(["age,job,income", *rows]))
    query.write_text("income,job,age\nrich,clerk,50\nrich,clerk,60\n")  # of one label and one category
    sets = ["--query", str(query), "--columns", COLUMNS]
    config = json.dumps({"in_features": 3, "num_classes": 2})
    network = ["--architecture", "linear", "--config", config, "--recipe", RECIPE, "--checkpoints", "2"]
    job, run = lines(diffin.invoke(main, ["train", "--data", str(train), *sets, *network, "--wait"]))
    asked, trained_on = list(client.datasets(limit=2))
    assert asked.like == trained_on.id == client.job(job).train_dataset_id
    assert asked.classes == trained_on.classes == ("poor", "rich")
    submitted = ["submit", "--train", str(train), *sets, "--trajectory", run, "--method", "tracin", "--wait"]
    _, _, *ranked = lines(diffin.invoke(main, submitted))
    assert sorted(int(row.split()[1]) for row in ranked) == list(range(12))
    evaluated = ["evaluate", "--train", trained_on.id, "--query", str(query), "--trajectory", run]
    evaluated += ["--method", "tracin", "--leave-one-out", "10"]
    lines(diffin.invoke(main, evaluated))
    assert next(client.datasets(limit=1)).like == trained_on.id


def test_text_comes_with_its_tokenizer(diffin: CliRunner, client: Diffin, tmp_path: Path) -> None:
    words = tmp_path / "tokenizer.json"
    tokenizer().save(str(words))
    for name, labels in (("train", ("pos", "neg")), ("query", ("pos", "pos"))):
        texts = zip(("a good film", "bad"), labels, strict=True)
        rows = [json.dumps({"text": text, "label": label}) for text, label in texts]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    config = json.dumps({"vocab_size": 8, "max_length": 128, "d_model": 4, "num_heads": 1, "num_layers": 1,
                         "dim_feedforward": 4, "num_classes": 2})  # fmt: skip
    network = ["--architecture", "transformer", "--config", config, "--recipe", RECIPE, "--checkpoints", "1"]
    data = ["--data", str(tmp_path / "train.jsonl"), "--query", str(tmp_path / "query.jsonl")]
    lines(diffin.invoke(main, ["train", *data, "--tokenizer", str(words), *network]))
    asked, trained_on = list(client.datasets(limit=2))
    assert asked.like == trained_on.id and asked.classes == trained_on.classes == ("neg", "pos")
    assert client.sample(asked, 0)["text"] == "a good film"


def test_columns_of_no_table_are_refused(
    diffin: CliRunner, training: Dataset, trajectory: Trajectory, tmp_path: Path
) -> None:
    np.savez(tmp_path / "query.npz", inputs=np.zeros((2, 2), np.float32), targets=[0, 1])
    given = ["--train", training.id, "--query", str(tmp_path / "query.npz"), "--trajectory", trajectory.id]
    result = diffin.invoke(main, ["submit", *given, "--columns", COLUMNS])
    assert result.exit_code != 0 and "none is sent" in result.output
