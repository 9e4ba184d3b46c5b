"""The worker's doorbell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers import free_port

RING = """
from app.store.db import Message
from worker.process import ring
ring([Message("diffin.score", "1", 1, "gpu")])
print("went on")
"""


def test_a_broker_out_of_reach_stops_nobody(tmp_path: Path) -> None:
    away = {"DIFFIN_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0", "DIFFIN_DATA_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", RING], env=os.environ | away, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.strip() == "went on", ran.stderr
    assert "the broker is out of reach" in ran.stderr
