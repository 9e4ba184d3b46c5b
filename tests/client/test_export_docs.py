"""docs/exports.md, its examples run as they are written, and the same from the shell."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest
from click.testing import CliRunner

from diffin import Diffin
from diffin.calls.exports import FORMATS
from diffin.cli import main
from diffin.models import Job
from tests import walk
from tests.services import Service

PAGE = Path(__file__).parents[2] / "docs" / "exports.md"


@pytest.fixture(scope="module")
def jobs(embedded_service: Service) -> tuple[str, str]:
    """A job over samples of suspicious names, and one that tells of two queries."""
    x, y = walk.digits(40)
    ids = np.array([f"{'=+-@'[i % 4]}sample {i}" for i in range(40)])
    with embedded_service.client() as http:
        body: dict[str, Any] = {"type": "influence", "trajectory_id": walk.run(http, (10,))}
        body["train_dataset_id"] = walk.dataset(http, walk.npz(inputs=x, targets=y, ids=ids))["id"]
        body["query_dataset_id"] = walk.dataset(http, walk.npz(inputs=x[:9], targets=y[:9]))["id"]
        by_query = {"query": {"indices": [3, 0]}, "method": {"name": "tracin", "per_query": True}}
        asked = [walk.ok(http.post("/v1/jobs", json=body | more), 202) for more in ({}, by_query)]
        plain, wide = (walk.finished(http, one["id"])["id"] for one in asked)
    return plain, wide


def test_every_example_of_the_page(
    embedded_service: Service, jobs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > len(FORMATS)
    with Diffin(embedded_service.url, embedded_service.key) as client:
        names = {"client": client, "job": jobs[0], "by_query": jobs[1], "csv": csv, "json": json, "np": np}
        names["pyarrow"] = pyarrow
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  (our own page)


def test_the_shell_saves_scores(
    embedded_service: Service, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key})
    ran = runner.invoke(main, ["export", job.id, "-o", "a.jsonl", "--order", "harmful"])
    assert (ran.exit_code, ran.stdout) == (0, "a.jsonl\n"), ran.output
    assert json.loads(Path("a.jsonl").read_text().splitlines()[0])["rank"] == 1
    ran = runner.invoke(main, ["export", job.id, "--format", "csv"])
    assert ran.stdout == f"{job.id}-scores.csv\n"
    assert Path(ran.stdout.strip()).read_text().startswith("sample_index,")
    ran = runner.invoke(main, ["export", job.id, "-o", "a.xlsx"])
    assert ran.exit_code == 1 and ".parquet" in ran.output


def test_the_shell_compares_jobs(embedded_service: Service, job: Job) -> None:
    runner = CliRunner(env={"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key})
    ran = runner.invoke(main, ["compare", job.id, job.id, "-k", "10"])
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.splitlines()[:2] == ["spearman  1.0000", "kendall  1.0000"]
    assert ran.stdout.splitlines()[-1].split() == ["10", "100%", "100%"]
