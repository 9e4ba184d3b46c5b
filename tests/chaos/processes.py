"""Finding the processes of a service, to kill them."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def children(pid: int) -> list[int]:
    """Direct children of a process, oldest first."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return sorted(found)


def worker_of(serve_pid: int) -> int:
    """The worker's main process below `diffin serve`."""
    for pid in children(serve_pid):
        if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise LookupError(f"{serve_pid} has no worker")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
