"""Token buckets: so many a second, a burst at once, each name by itself; shared by the processes of an API.

They lie in a table that all processes map. Nobody locks it: who waited for a lock that another process holds
would also wait until that one's turn at its interpreter comes. Two processes that take from the same bucket
within a microsecond may take the same token.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from hashlib import blake2b
from pathlib import Path

ROWS, WAYS = 2048, 8  # a name has its row, and one of the places there
PLACE = 16  # bytes: the digest of a name, and when its bucket will be full again


class Buckets:
    """A bucket of `burst` tokens for each name, refilled by `rate` tokens a second.

    Args:
        file: of the processes that share the buckets; None: they are this one's alone.
    """

    def __init__(self, rate: float, burst: float, file: Path | None = None) -> None:
        self.rate, self.burst = rate, burst
        table = memoryview(_mapped(file, ROWS * WAYS * PLACE))
        self._names, self._full_at = table.cast("Q")[::2], table.cast("d")[1::2]
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Takes a token, or says in how many seconds there will be one; 0: taken."""
        with self._lock:
            now = time.monotonic()  # the same in all processes
            digest, place = self._found(name)
            full_at = max(self._full_at[place], now) if self._names[place] == digest else now
            missing = (full_at - now) * self.rate
            if missing + 1 > self.burst:
                return (missing + 1 - self.burst) / self.rate
            self._full_at[place] = full_at + 1 / self.rate
            self._names[place] = digest
            return 0.0

    def give_back(self, name: str) -> None:
        """Undoes one `take`."""
        with self._lock:
            digest, place = self._found(name)
            if self._names[place] == digest:
                self._full_at[place] -= 1 / self.rate

    def _found(self, name: str) -> tuple[int, int]:
        """(the digest of a name, its place): a place that it may have where it has none, the one whose bucket
        is the fullest. Those that took most are remembered.
        """
        digest = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
        first = digest % ROWS * WAYS
        places = range(first, first + WAYS)
        for place in places:
            if self._names[place] == digest:
                return digest, place
        return digest, min(places, key=self._full_at.__getitem__)


def _mapped(file: Path | None, size: int) -> mmap.mmap:
    if file is None:
        return mmap.mmap(-1, size)
    with file.open("a+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, size)  # zeros, unless another process was first
        return mmap.mmap(opened.fileno(), size)
