"""Locks of the system's on bytes of a file (open file description locks of Linux).

They belong to the descriptor and go with it, also when its process is killed; they hold between threads that
opened the file each for themselves, and between processes.
"""

from __future__ import annotations

import fcntl
import os
import struct

FLOCK = "hhqqi0q"  # struct flock on 64-bit Linux: type, whence, start, length, pid
READ, WRITE, UNLOCK = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK


def lock(descriptor: int, kind: int, start: int, length: int, *, wait: bool = False) -> bool:
    """Locks or unlocks these bytes of a file; False when another descriptor has them, unless told to wait."""
    wanted = struct.pack(FLOCK, kind, os.SEEK_SET, start, length, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError:
        return False
    return True
