"""`make demo`, smaller: everything it promises is there, and the service is gone afterwards."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from examples.digits import digits

ROOT = Path(__file__).parents[2]


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "digits_demo.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_the_demo_finds_flipped_labels_and_leaves_its_results(tmp_path: Path) -> None:
    ran = demo("--out", str(tmp_path), "--samples", "400", "--seed", "3")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    rows = result["rows"]
    assert [row["rank"] for row in rows] == list(range(1, 21))
    assert sum(row["flipped"] for row in rows) >= 15  # a tenth of all are
    assert result["auc"] > 0.85 and result["precision_at_k"]["40"] > 0.6
    assert result["baseline"]["method"] == "loss" and result["baseline"]["auc"] > 0.9
    assert result["seconds"] > 0
    with Image.open(tmp_path / "harmful.png") as sheet:
        assert sheet.width > 500
    assert f"/v1/jobs/{result['job_id']}/scores?order=harmful" in ran.stdout
    (url,) = re.findall(r"Service at (\S+)", ran.stdout)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "data" / "precious"
    precious.parent.mkdir()
    precious.write_text("mine")
    ran = demo("--out", str(tmp_path), "--samples", "100")
    assert ran.returncode == 1 and "not this example's" in ran.stdout
    assert precious.read_text() == "mine"


def test_the_flips_follow_the_seed_and_every_flipped_label_is_another() -> None:
    once, again, other = digits(0, 500), digits(0, 500), digits(1, 500)
    assert np.array_equal(once.labels, again.labels) and not np.array_equal(once.labels, other.labels)
    clean = digits(0, 500, share=0.0)
    assert np.array_equal(once.images, clean.images)
    assert np.array_equal(once.labels != clean.labels, once.flipped) and once.flipped.sum() == 50
