"""Clean, delete and keep from Python and the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from diffin import Diffin, DiffinError
from diffin.cli import main
from diffin.models import Job
from tests.client.conftest import SAMPLES
from tests.services import Service


@pytest.fixture
def shell(embedded_service: Service, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner(env={"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key})


def printed(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_cleaning_proposes_and_its_manifest_lists(client: Diffin, job: Job) -> None:
    asked = client.clean(job, size=10, name="ten", metadata={"why": "test"})
    assert (asked.size, asked.name, asked.num_samples) == (10, "ten", SAMPLES)
    found = client.selected(asked)
    assert found.result is not None and found.result["predicted_change"] < 0
    rows = list(client.samples(found))
    assert [row.action for row in rows].count("relabel") == found.result["relabel"]
    manifest = client.manifest(found)
    assert len(manifest["keep"]) == SAMPLES - 10
    assert client.selection(found.id) == found
    assert next(client.selections(job=job, type="clean")).id == found.id
    client.delete(found)
    with pytest.raises(DiffinError, match="no selection"):
        client.selection(found)


def test_a_coreset_and_a_deletion(client: Diffin, job: Job, tmp_path: Path) -> None:
    kept = client.selected(client.coreset(job, fraction=0.5, stratify=True))
    assert kept.size == SAMPLES // 2 == len(client.manifest(kept)["keep"])
    removed = client.selected(client.deletion(job, sample_indices=[3, 1]))
    assert client.manifest(removed)["remove"] == [1, 3]
    score = sum(client.score(job, index).score for index in (1, 3))
    assert removed.result is not None and removed.result["predicted_change"] == pytest.approx(-score)
    updated = load_file(client.download_updated(removed, tmp_path / "updated.safetensors"))
    assert updated["layers.0.weight"].shape == (3, 4)
    effects = removed.result["update"]["effects"]
    assert effects["updated"]["forget"]["loss"] > effects["original"]["forget"]["loss"]


def test_decisions_are_written_read_and_acted_on(client: Diffin, job: Job, tmp_path: Path) -> None:
    counts = client.decide(job, {0: "remove", 1: ("relabel", 2), 2: "keep"})
    assert counts == {"keep": 1, "remove": 1, "relabel": 1}
    assert [(one.sample_index, one.action, one.label) for one in client.decisions(job, everyone=True)] == [
        (0, "remove", None),
        (1, "relabel", 2),
        (2, "keep", None),
    ]
    with pytest.raises(DiffinError, match=f"samples 0 to {SAMPLES - 1}"):
        client.decide(job, {3: "remove", SAMPLES: "remove"})
    found = client.selected(client.decided(job, name="mine"))
    manifest = client.manifest(found)
    assert (manifest["remove"], manifest["relabel"]) == (
        [0],
        [{"sample_index": 1, "sample_id": None, "label": 2}],
    )
    assert len(manifest["keep"]) == SAMPLES - 2
    table = client.download_decisions(job, tmp_path / "decisions.csv").read_text().splitlines()
    assert len(table) == 4
    told = json.loads(client.download_decisions(job, tmp_path / "decisions.json").read_text())
    assert [one["sample_index"] for one in told["decisions"]] == [0, 1, 2]
    assert client.decide(job, dict.fromkeys(range(3))) == {"keep": 0, "remove": 0, "relabel": 0}


def test_a_run_without_a_recipe_is_not_verified(client: Diffin, job: Job) -> None:
    with pytest.raises(DiffinError, match="has no recipe"):
        client.clean(job, auto=True, verify=True, seeds=2)


def test_the_shell_cleans(shell: CliRunner, job: Job, tmp_path: Path) -> None:
    lines = printed(shell.invoke(main, ["clean", job.id, "--size", "5", "--no-relabel", "--wait"]))
    selection = lines[0]
    assert selection.startswith("sel_")
    assert lines[1] == f"clean  succeeded  keep {SAMPLES - 5}, remove 5, relabel 0"
    assert lines[2].startswith("predicted change of the query loss: -")
    assert len([line for line in lines if " remove " in line]) == 5 + 1
    printed(shell.invoke(main, ["manifest", selection, "-o", str(tmp_path / "m.json")]))
    assert len(json.loads((tmp_path / "m.json").read_text())["remove"]) == 5
    assert selection in printed(shell.invoke(main, ["selections", "--job", job.id]))[1]


def test_the_shell_keeps_and_deletes(shell: CliRunner, job: Job) -> None:
    kept = printed(shell.invoke(main, ["coreset", job.id, "--fraction", "0.1", "--wait"]))
    assert kept[1].startswith("coreset  succeeded  keep 110")
    removed = printed(shell.invoke(main, ["deletion", job.id, "--index", "7", "--wait"]))
    assert removed[1] == f"deletion  succeeded  keep {SAMPLES - 1}, remove 1, relabel 0"
    assert printed(shell.invoke(main, ["selection", removed[0]])) == removed[1:]
    refused = shell.invoke(main, ["clean", job.id])
    assert refused.exit_code == 1 and "give one of auto, size, fraction, threshold" in refused.output
