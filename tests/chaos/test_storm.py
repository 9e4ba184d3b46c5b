"""The quick storm: ten random faults against ten jobs, after which nothing is lost, doubled or different."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_after_a_quick_storm_all_is_as_if_there_had_been_none() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos.storm", "--quick"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    told = dict(re.findall(r"^bar: (chaos\.\w+) \S+ \S+ (ok|short)$", ran.stdout, re.MULTILINE))
    kept = {f"chaos.{what}" for what in ("lost", "doubled", "differing", "orphans", "unexpected")}
    assert kept <= {name for name, verdict in told.items() if verdict == "ok"}, ran.stdout + ran.stderr
    # how soon work goes on depends on who else wants the cores: that figure is for `make chaos`
    assert "chaos.recovery_leases" in told
