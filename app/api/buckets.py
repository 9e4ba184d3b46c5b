"""Token buckets: so many a second, a burst at once, each name by itself; in the memory of this process."""

from __future__ import annotations

import threading
import time

MOST_NAMES = 10_000


class Buckets:
    """A bucket of `burst` tokens for each name, refilled by `rate` tokens a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._full_at: dict[str, float] = {}  # when each will be full again; those who are full are not in it
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Takes a token, or says in how many seconds there will be one; 0: taken."""
        with self._lock:
            now = time.monotonic()
            full_at = max(self._full_at.get(name, now), now)
            missing = (full_at - now) * self.rate
            if missing + 1 > self.burst:
                return (missing + 1 - self.burst) / self.rate
            if len(self._full_at) >= MOST_NAMES:  # those that took most are remembered
                fullest_last = sorted(self._full_at.items(), key=lambda item: item[1], reverse=True)
                self._full_at = {other: at for other, at in fullest_last[: MOST_NAMES // 2] if at > now}
            self._full_at[name] = full_at + 1 / self.rate
            return 0.0

    def give_back(self, name: str) -> None:
        """Undoes one `take`."""
        with self._lock:
            if name in self._full_at:
                self._full_at[name] -= 1 / self.rate
