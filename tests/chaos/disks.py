"""A small disk of its own, to be filled."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A disk in memory, mounted at `folder`; the test is skipped where nobody may mount one."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    ran = subprocess.run(mount, capture_output=True, text=True)
    if ran.returncode:
        pytest.skip(f"no disk can be mounted here: {ran.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fills the disk but for `leave` bytes; returns the file that does, to be removed."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        piece = 1024 * 1024
        while piece and (free := shutil.disk_usage(disk).free) > leave:
            try:
                file.write(b"\0" * max(1, min(piece, free - leave)))
            except OSError:
                piece //= 2
    return filler


def refused(answer: httpx.Response) -> None:
    """Says in words that there is no room, and what to do."""
    assert answer.status_code == 507, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "insufficient_storage"
    assert "no room" in problem["detail"] and "send the request again" in problem["detail"]
