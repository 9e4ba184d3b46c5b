"""Processes that are started again when they die of anything but our asking."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from types import FrameType

COMMAND = [sys.executable, "-m", "diffin.cli"]
PAUSE_SECONDS = 1.0  # before another is started


class Supervised(ABC):
    """A process, and the thread that waits for its end."""

    name: str

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._process = self.start()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    @abstractmethod
    def start(self) -> subprocess.Popen[bytes]:
        """Another one."""

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        """Its status, once it is gone."""
        return process.wait()

    def ask_to_stop(self) -> None:
        self._stopping.set()
        self._process.terminate()

    def wait(self, seconds: float | None = None) -> None:
        """Returns once the process has finished what it had in hand; one that takes longer is killed."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join()

    def _watch(self) -> None:
        while True:
            status = self.ended(self._process)
            if self._stopping.wait(PAUSE_SECONDS):
                return
            print(f"diffin  {self.name} ended with {status}: starting another", file=sys.stderr, flush=True)
            self._process = self.start()
            if self._stopping.is_set():  # it was asked of the one before
                self._process.terminate()


def end_on_sigterm() -> None:
    """Has SIGTERM end this process as Ctrl-C does, so that it can stop the others."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
