"""Files that lie where the service may fetch them, named by the client and the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from app.store.blobs import digest
from diffin import Diffin
from diffin.cli import main
from diffin.errors import DiffinError, InputInvalid
from tests.client.conftest import CLASSES, FEATURES
from tests.services import Service
from tests.worker.loading.test_text import tokenizer


@pytest.fixture
def sets(embedded_service: Service) -> Path:
    return embedded_service.sets


def test_a_data_set_by_uri_is_the_one_that_is_sent(client: Diffin, sets: Path) -> None:
    (file := sets / "people.csv").write_text("age,income\n39,low\n50,high\n")
    named = client.ready(client.upload_dataset(uri=f"file://{file}", columns={"targets": "income"}))
    sent = client.ready(client.upload_dataset(file, columns={"targets": "income"}))
    assert (named.name, named.uri, named.bytes) == ("people", f"file://{file}", file.stat().st_size)
    assert (named.sha256, named.features, named.classes) == (sent.sha256, sent.features, sent.classes)


def test_text_by_uri_takes_a_tokenizer_that_is_sent(client: Diffin, sets: Path, tmp_path: Path) -> None:
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    (sets / "texts.jsonl").write_text('{"text": "a good film", "label": "pos"}\n')
    uri = f"file://{sets}/texts.jsonl"
    named = client.upload_dataset(uri=uri, tokenizer=tmp_path / "tokenizer.json", max_length=8, padding_id=0)
    assert (client.ready(named).input or {})["shape"] == [8]
    assert not list(client.uploads(status="complete"))


def test_a_checkpoint_by_uri_with_what_its_optimizer_carried(client: Diffin, sets: Path) -> None:
    weight, bias = np.ones((CLASSES, FEATURES), np.float32), np.zeros(CLASSES, np.float32)
    tensors = {"layers.0.weight": weight, "layers.0.bias": bias}
    save_file(tensors, sets / "6.safetensors")
    save_file({f"momentum_buffer.{name}": one for name, one in tensors.items()}, sets / "6.state.safetensors")
    network = {"name": "linear", "config": {"in_features": FEATURES, "num_classes": CLASSES}}
    run = client.create_trajectory(name="run", architecture=network)
    uri, state = (f"file://{sets}/6.{kind}" for kind in ("safetensors", "state.safetensors"))
    made = client.upload_checkpoint(run, step=6, uri=uri, learning_rate=0.1, optimizer_uri=state)
    assert made.uri == uri
    (checkpoint,) = client.ready(client.trajectory(run)).checkpoints
    told = checkpoint.optimizer_file or {}
    assert (told["uri"], told["state"]) == (state, ["momentum_buffer"])
    assert told["sha256"] == digest(sets / "6.state.safetensors")


def test_what_cannot_be_had_is_told(client: Diffin, sets: Path) -> None:
    with pytest.raises(DiffinError, match="no store that the operator allowed"):
        client.upload_dataset(uri="file:///etc/passwd.npz")
    with pytest.raises(InputInvalid, match=r"absent\.npz is not there"):
        client.ready(client.upload_dataset(uri=f"file://{sets}/absent.npz"))


def test_the_command_line_takes_a_uri_where_it_takes_a_file(
    embedded_service: Service, client: Diffin, sets: Path, tmp_path: Path
) -> None:
    rows = [f"{20 + 5 * i},{['baker', 'clerk'][i % 2]},{['poor', 'rich'][i // 6]}" for i in range(12)]
    (sets / "workers.csv").write_text("\n".join(["age,job,income", *rows]))
    (query := tmp_path / "others.csv").write_text("income,job,age\nrich,clerk,50\n")
    shell = CliRunner(env={"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key})
    recipe = '{"schedule": {"name": "constant", "learning_rate": 0.1}, "batch_size": 4, "epochs": 1}'
    asked = ["train", "--data", f"file://{sets}/workers.csv", "--query", str(query)]
    asked += ["--columns", '{"inputs": ["age", "job"], "targets": "income"}', "--recipe", recipe]
    asked += ["--architecture", "linear", "--config", '{"in_features": 3, "num_classes": 2}']
    done = shell.invoke(main, asked)
    assert done.exit_code == 0, done.output
    read_like, trained_on = list(client.datasets(limit=2))
    assert trained_on.uri == f"file://{sets}/workers.csv"
    assert read_like.like == trained_on.id
    client.wait(done.stdout.strip())
