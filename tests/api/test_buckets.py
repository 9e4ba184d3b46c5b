"""Token buckets, of one process and of several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.api.buckets import ROWS, WAYS, Buckets

ROOT = Path(__file__).parents[2]


def test_a_bucket_has_its_burst_and_refills(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("app.api.buckets.time.monotonic", lambda: clock[0])
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0
    clock[0] += 0.5
    assert [buckets.take("a") > 0 for _ in range(2)] == [False, True]
    clock[0] += 100
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_buckets_forget_names_but_not_those_that_took_most() -> None:
    buckets = Buckets(rate=0.001, burst=5)
    for _ in range(5):
        buckets.take("guesser")
    for n in range(4 * ROWS * WAYS):
        buckets.take(f"other {n}")
    assert buckets.take("guesser") > 0
    assert sum(buckets.take(f"other {n}") for n in range(100)) == 0


def test_buckets_of_a_file_are_those_of_all_who_have_it(tmp_path: Path) -> None:
    """Two processes take by turns from buckets that a third one has, and give back what they took."""
    mine = Buckets(rate=0.001, burst=1000, file=tmp_path / "buckets")
    script = (
        "import sys, time, pathlib; from app.api.buckets import Buckets\n"
        "buckets = Buckets(0.001, 1000, pathlib.Path(sys.argv[1]))\n"
        "print(sum(buckets.take('a') == 0 for _ in range(1500) if not time.sleep(0.0005)))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "buckets")]
    taking = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(2)]
    taken = [int(one.communicate()[0]) for one in taking]
    assert 1000 <= sum(taken) <= 1050
    assert mine.take("a") > 0 and mine.take("b") == 0
    mine.give_back("a")
    assert mine.take("a") == 0
