"""Threads of a worker that look for work of their own, beside whatever it computes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

POLL_SECONDS = 0.5
log = logging.getLogger(__name__)


class Beside:
    """Threads that each do one thing after the other.

    Args:
        name: what one of them is called in the log.
        count: how many there are.
        once: does one thing that is due; False where there is none.
    """

    def __init__(self, name: str, count: int, once: Callable[[], bool]) -> None:
        self._name, self._do = name, once
        self._halt = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name} {number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns once what is being done is done, or given back."""
        self._halt.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._halt.is_set():
            try:
                found = self._do()
            except Exception as problem:  # whatever it is, what comes after this must be done
                log.warning("%s: %s: %s; trying again", self._name, type(problem).__name__, problem)
                found = False
            if not found:
                self._halt.wait(POLL_SECONDS * len(self._threads))
