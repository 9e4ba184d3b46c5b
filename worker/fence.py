"""Calls that run in a process of their own each, with bounds on memory and time: what breaks is one call.

The fence is a small process, forked off a worker that has neither threads nor connections yet. It forks again
for each call, so that a call starts at once with the libraries loaded and with nothing of the call before.
Both pass JSON alone, since a process that a stranger's file has taken over must not hand back a pickle; their
environment holds no secret. It is no sandbox: they run as the same user, and may read what that user may.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]
# all that a call sees of the environment
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
POLL_SECONDS = 0.2
OUT_OF_MEMORY = "can't allocate memory"  # as torch says it on the CPU
# how a process ends that ran into what it should not have touched; SIGKILL comes from elsewhere
OWN_FAULT = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGSYS)


class Bounds(NamedTuple):
    """What a call may take: bytes beyond those of the libraries, and seconds by the clock."""

    memory: int
    seconds: float


class BoundsError(Exception):
    """The call took too much, or its process crashed: `why` is "memory", "time" or the name of a signal."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Fence:
    """Calls by name, each in a process of its own. To be made before the process has threads.

    Args:
        calls: what may be called: from JSON to JSON.
        prepare: called in the fence before all else: what it loads, no call must load again.
    """

    def __init__(
        self, calls: Mapping[str, Callable[[Json], Json]], prepare: Callable[[], None] = lambda: None
    ) -> None:
        self._connection, theirs = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._connection.close()
            try:
                _serve(theirs, calls, prepare)
            finally:
                os._exit(0)
        theirs.close()

    def call(self, name: str, argument: Json, bounds: Bounds, tick: Callable[[], None]) -> Json:
        """What the call answers.

        Args:
            tick: called a few times a second; what it raises ends the call.

        Raises:
            BoundsError: the call went beyond its bounds, or crashed.
            RuntimeError: the call raised what it should not have; the text is its traceback.
            EOFError: the fence itself is gone: nothing can be called in this process any more.
        """
        self._send({"call": name, "argument": argument, "bounds": bounds})
        while not self._connection.poll(POLL_SECONDS):
            try:
                tick()
            except BaseException:
                self._send({"stop": True})
                self._receive()
                raise
        answer = self._receive()
        if "why" in answer:
            raise BoundsError(answer["why"])
        if "trace" in answer:
            raise RuntimeError(answer["trace"])
        found: Json = answer["found"]
        return found

    def _send(self, message: Json) -> None:
        try:
            _send(self._connection, message)
        except OSError as gone:
            raise EOFError("The process that reads files is gone") from gone

    def _receive(self) -> Json:
        try:
            return _receive(self._connection)
        except OSError as gone:
            raise EOFError("The process that reads files is gone") from gone


# ---------------------------------------------------------------- in the fence
def _serve(
    connection: Connection, calls: Mapping[str, Callable[[Json], Json]], prepare: Callable[[], None]
) -> None:
    """Until the worker is gone. Ctrl-C reaches it too, which is for the worker to act on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    os.environ.clear()
    os.environ.update(kept)
    prepare()
    while True:
        try:
            asked = _receive(connection)
            if "call" in asked:  # a stop may come when the call has ended by itself
                _send(connection, _watched(connection, calls[asked["call"]], asked))
        except (EOFError, OSError):
            return


def _watched(connection: Connection, call: Callable[[Json], Json], asked: Json) -> Json:
    """The answer of one call, or why there is none."""
    bounds = Bounds(*asked["bounds"])
    ours, theirs = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        try:
            _bound(bounds.memory)
            _send(theirs, _answer(call, asked["argument"]))
        finally:
            os._exit(0)
    theirs.close()
    answer = _wait(connection, ours, time.monotonic() + bounds.seconds)
    if "why" in answer:
        os.kill(pid, signal.SIGKILL)
    ours.close()
    status = os.waitpid(pid, 0)[1]
    return _of_status(status) if "gone" in answer else answer


def _wait(connection: Connection, call: Connection, deadline: float) -> Json:
    while (left := deadline - time.monotonic()) > 0:
        ready = wait([connection, call], left)
        if call in ready:
            try:
                return _receive(call)
            except (EOFError, OSError):
                return {"gone": True}
        if connection in ready:
            return {"why": "stopped"}  # the worker asked for it, or is gone itself
    return {"why": "time"}


def _of_status(status: int) -> Json:
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in OWN_FAULT:
        return {"why": signal.Signals(os.WTERMSIG(status)).name}
    return {"trace": f"The process that read the file was ended from outside (status {status})"}


# ---------------------------------------------------------------- in the process of one call
def _bound(memory: int) -> None:
    """`memory` bytes more than there are; files that are mapped do not count."""
    held = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmData:")
    )
    resource.setrlimit(resource.RLIMIT_DATA, (held + memory, held + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(call: Callable[[Json], Json], argument: Json) -> Json:
    try:
        return {"found": call(argument)}
    except MemoryError:
        return {"why": "memory"}
    except Exception as crash:
        if OUT_OF_MEMORY in str(crash):
            return {"why": "memory"}
        return {"trace": traceback.format_exc()}


# ---------------------------------------------------------------- messages
def _send(connection: Connection, message: Json) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _receive(connection: Connection) -> Json:
    message: Json = json.loads(connection.recv_bytes())
    return message
