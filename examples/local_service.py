"""The embedded service as a user starts it, `diffin serve`, for as long as a `with` block lasts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from diffin import Diffin

START_SECONDS = 90
STOP_SECONDS = 30


class ServiceError(Exception):
    """The service did not start, or stopped by itself."""


def fresh(folder: Path, mark: str) -> Path:
    """`folder`, empty of what an earlier run left there.

    Raises:
        FileExistsError: it holds something else: it lacks the file `mark` that such a run leaves.
    """
    if folder.exists():
        if any(folder.iterdir()) and not (folder / mark).exists():
            raise FileExistsError(f"{folder} holds files that are not this example's: give another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


@contextmanager
def serving(data_dir: Path, log: Path) -> Iterator[Diffin]:
    """A client of a service of its own on a free port, which ends with the block (SIGTERM).

    Raises:
        ServiceError: it was not ready after 90 s, or ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    ours = {"DIFFIN_DATA_DIR": str(data_dir.absolute()), "DIFFIN_PORT": str(port)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIFFIN_")} | ours
    command = [sys.executable, "-m", "diffin.cli", "serve"]
    with log.open("w") as output:
        # A session of its own: Ctrl-C is for us, who then stop it.
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _await_ready(process, url)
        with Diffin(url, (data_dir / "api-key").read_text().strip()) as client:
            yield client
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], url: str) -> None:
    end, answer = time.monotonic() + START_SECONDS, "nothing"
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ServiceError(f"the service ended while starting (exit status {process.returncode})")
        try:
            response = httpx.get(f"{url}/readyz", timeout=5)
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        if response.status_code == 200:
            return
        answer = response.text
        time.sleep(0.2)
    raise ServiceError(f"the service was not ready after {START_SECONDS} s; /readyz answers {answer}")
