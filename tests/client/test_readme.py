"""README's curl walk-through, run as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from tests.services import Service

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def walkthrough() -> str:
    (block,) = re.findall(r"<!-- test: walkthrough -->\n```bash\n(.*?)```", README.read_text(), re.DOTALL)
    return str(block)


def test_the_walkthrough_ends_with_the_wrong_labels(
    walkthrough: str, embedded_service: Service, tmp_path: Path
) -> None:
    python = Path(sys.executable).parent
    environment = os.environ | {"DIFFIN_URL": embedded_service.url, "DIFFIN_API_KEY": embedded_service.key}
    environment["PATH"] = f"{python}{os.pathsep}{environment['PATH']}"
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", walkthrough],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = [int(index) for index in re.findall(r"^sample +(\d+) ", ran.stdout, re.MULTILINE)]
    assert len(found) == 10
    assert sum(index < 30 for index in found) >= 8  # the first 30 labels are the wrong ones


def test_every_setting_is_in_the_table() -> None:
    named = set(re.findall(r"`DIFFIN_([A-Z_]+)`", README.read_text()))
    assert named == {name.upper() for name in Settings.model_fields} - {"EXIT_WITH_PARENT", "API_SHARED"}
