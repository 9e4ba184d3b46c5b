"""A worker's connections and its doorbell."""

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

ASK_AT_ONCE = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from worker.process import process
start = Barrier(16)
with ThreadPoolExecutor(16) as threads:
    made = {id(one) for one in threads.map(lambda _: (start.wait(), process())[1], range(16))}
print(len(made))
"""


def test_threads_that_ask_at_once_share_one(tmp_path: Path) -> None:
    """What one of two counted nobody would write."""
    ran = subprocess.run(
        [sys.executable, "-c", ASK_AT_ONCE],
        env=os.environ | {"DIFFIN_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.strip() == "1", ran.stdout + ran.stderr


def test_a_broker_out_of_reach_stops_nobody(tmp_path: Path) -> None:
    away = {"DIFFIN_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0", "DIFFIN_DATA_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", RING], env=os.environ | away, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.strip() == "went on", ran.stderr
    assert "the broker is out of reach" in ran.stderr
