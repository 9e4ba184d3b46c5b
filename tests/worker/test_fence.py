"""What is called behind the fence: nothing of it reaches the worker but its answer."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.fence import Json

MIB = 1024**2
# The fence is made before there are threads, so not in the process of the tests.
WORKER = """
import json, sys
from tests.worker.test_fence import CALLS, Impatience
from worker.fence import Bounds, BoundsError, Fence

fence = Fence(CALLS)
print(fence.pid, flush=True)
for line in sys.stdin:
    name, argument, memory, seconds, patience = json.loads(line)
    try:
        told = {"found": fence.call(name, argument, Bounds(memory, seconds), Impatience(patience))}
    except BoundsError as broken:
        told = {"why": broken.why}
    except (RuntimeError, InterruptedError, EOFError) as error:
        told = {type(error).__name__: str(error)}
    print(json.dumps(told), flush=True)
"""


class Impatience:
    """Gives up at the tick of this number."""

    def __init__(self, ticks: int | None) -> None:
        self.left = ticks

    def __call__(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise InterruptedError("enough")


def echo(given: Json) -> Json:
    return {**given, "pid": os.getpid(), "environment": sorted(os.environ), "state": os.environ.get("TZ")}


def remember(given: Json) -> Json:
    os.environ["TZ"] = "elsewhere"
    return given


def take(given: Json) -> Json:
    held = bytearray(given["bytes"])
    return {"held": len(held)}


def wait(given: Json) -> Json:
    Path(given["file"]).write_text(str(os.getpid()))
    time.sleep(60)
    return given


def crash(given: Json) -> Json:
    ctypes.string_at(0)
    return given


def die(given: Json) -> Json:
    os.kill(os.getpid(), given["signal"])
    return given


def fail(given: Json) -> Json:
    raise KeyError("a bug of ours")


CALLS = {one.__name__: one for one in (echo, remember, take, wait, crash, die, fail)}


class Worker:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.fence = int(self._line())

    def ask(
        self,
        name: str,
        memory: int = 64 * MIB,
        seconds: float = 30,
        patience: int | None = None,
        **given: object,
    ) -> Json:
        assert self.process.stdin
        self.process.stdin.write(json.dumps([name, given, memory, seconds, patience]) + "\n")
        self.process.stdin.flush()
        told: Json = json.loads(self._line())
        return told

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()


@pytest.fixture
def worker() -> Iterator[Worker]:
    environment = os.environ | {"DIFFIN_SECRET_KEY": "secret", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=-1, stdout=-1, text=True, env=environment
    ) as process:
        yield Worker(process)
        process.kill()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_each_call_has_a_process_of_its_own_without_secrets(worker: Worker) -> None:
    assert worker.ask("remember", a=1) == {"found": {"a": 1}}
    first, again = worker.ask("echo", a="ü")["found"], worker.ask("echo", a="ü")["found"]
    assert first["a"] == "ü"
    assert len({first["pid"], again["pid"], worker.fence, worker.process.pid}) == 4
    assert first["state"] != "elsewhere"
    assert not any(name.startswith("DIFFIN") for name in first["environment"])
    assert "PATH" in first["environment"]


def test_a_bound_is_kept_and_the_next_call_goes_on(worker: Worker) -> None:
    assert worker.ask("take", bytes=32 * MIB) == {"found": {"held": 32 * MIB}}
    assert worker.ask("take", bytes=96 * MIB) == {"why": "memory"}
    began = time.monotonic()
    assert worker.ask("wait", seconds=0.5, file=os.devnull) == {"why": "time"}
    assert time.monotonic() - began < 5
    assert worker.ask("crash") == {"why": "SIGSEGV"}
    assert worker.ask("die", signal=int(signal.SIGABRT)) == {"why": "SIGABRT"}
    assert worker.ask("take", bytes=MIB) == {"found": {"held": MIB}}


def test_what_is_nobodys_file_to_blame_for_is_an_error(worker: Worker) -> None:
    assert "a bug of ours" in worker.ask("fail")["RuntimeError"]
    assert "from outside" in worker.ask("die", signal=int(signal.SIGKILL))["RuntimeError"]


def test_what_is_given_up_is_ended(worker: Worker, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert worker.ask("wait", patience=2, file=str(file)) == {"InterruptedError": "enough"}
    assert gone_within(int(file.read_text()), 1)
    assert worker.ask("remember", a=1) == {"found": {"a": 1}}


def test_it_goes_with_its_worker_in_the_middle_of_a_call(worker: Worker, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    assert worker.process.stdin
    worker.process.stdin.write(json.dumps(["wait", {"file": str(file)}, MIB, 60, None]) + "\n")
    worker.process.stdin.flush()
    while not (file.exists() and file.read_text()):
        time.sleep(0.02)
    worker.process.kill()
    assert gone_within(worker.fence, 5)
    assert gone_within(int(file.read_text()), 5)


def test_without_its_process_nothing_can_be_called(worker: Worker) -> None:
    os.kill(worker.fence, signal.SIGKILL)
    assert "EOFError" in worker.ask("echo")
