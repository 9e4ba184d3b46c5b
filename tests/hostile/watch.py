"""Notes what a reader of files has no business with: files elsewhere, other programs, pickles, the network.

It sees what goes through Python. What a library in C does by itself it cannot see: for that there are canaries.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

RUNS = {
    "os.system", "os.exec", "os.posix_spawn", "os.forkpty", "subprocess.Popen", "pickle.find_class",
    "socket.connect", "socket.getaddrinfo", "os.symlink", "os.link", "os.chmod", "os.chown",
}  # fmt: skip
MAKES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")  # below the folder alone


def watch(folder: str, log: str) -> None:
    """Watches this process and those forked off it, from now on: there is no way to take a hook away again.

    Args:
        folder: what may be read and written; of all else the interpreter's and the project's files may be read.
        log: a file, to which a line is added for whatever is noted.
    """
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    own = (
        folder,
        sys.prefix,
        sys.base_prefix,
        str(Path(__file__).parents[2]),
        "/dev/",
        "/proc/self/",
        "/usr/",
    )

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, flags = given[0], given[2] or 0
            name = os.fsdecode(path) if isinstance(path, str | bytes) else ""
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            fine = not name or name.startswith((folder, "/dev/")) or (not writes and name.startswith(own))
        elif event in MAKES:
            fine = os.fsdecode(given[0]).startswith(folder)
        else:
            fine = event not in RUNS
        if not fine:
            os.write(file, f"{event} {given!r}\n".encode())

    sys.addaudithook(hook)
