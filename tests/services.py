"""The service as its users run it: the `diffin` commands in processes of their own, asked over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.servers import free_port

KEY = "diffin_key_of_the_tests"
START_SECONDS = 120.0
STOP_SECONDS = 60.0
# uvicorn finishes its requests, then hands on the signal that stopped it
CLEAN = {0, -signal.SIGTERM}


@dataclass(frozen=True)
class Service:
    """A running service, the environment its commands run in, and its processes by name."""

    url: str
    key: str
    data_dir: Path
    environment: dict[str, str]
    log: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def sets(self) -> Path:
        """The folder that clients may name files in by `uri`, where there is one."""
        return Path(self.environment["DIFFIN_URI_PREFIXES"].removeprefix("file://"))

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that answers HTTP."""
        return self.processes["api"]

    def client(self) -> httpx.Client:
        """A plain HTTP client that carries the key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @contextmanager
    def running(self, name: str, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """`diffin COMMAND` until the end of the block, which asks it to stop and sees that it does, cleanly.

        A test that kills the process itself (SIGKILL) is spared the check.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "diffin.cli", command],
                env=self.environment,
                cwd=self.data_dir,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C must reach the tests first, which then stop the service
            )
        self.processes[name] = process
        try:
            yield process
        finally:
            process.terminate()
            try:
                status = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status = process.wait()
                raise AssertionError(
                    f"`diffin {command}` did not stop in {STOP_SECONDS:.0f} s\n{self.log_tail()}"
                ) from None
        assert status in {*CLEAN, -signal.SIGKILL}, (
            f"`diffin {command}` ended with {status}\n{self.log_tail()}"
        )

    def migrate(self) -> None:
        command = [sys.executable, "-m", "diffin.cli", "migrate"]
        with self.log.open("ab") as log:
            subprocess.run(command, env=self.environment, check=True, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        """Returns once /readyz says that database, storage, queue and a worker are there."""
        deadline, answer = time.monotonic() + START_SECONDS, "nothing"
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}\n{self.log_tail()}")
            try:
                response = httpx.get(f"{self.url}/readyz", timeout=5)
            except httpx.TransportError as error:
                answer = repr(error)
            else:
                if response.status_code == 200:
                    return
                answer = response.text
            time.sleep(0.1)
        raise RuntimeError(f"/readyz still says {answer}\n{self.log_tail()}")


def wait_for_http(service: Service) -> None:
    """Returns once the API answers, with or without a worker."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{service.url}/livez", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"no answer from {service.url}\n{service.log_tail()}")


def prepared(folder: Path, **settings: str) -> Service:
    """A service that is yet to start, with everything it keeps below `folder`.

    `settings` are those of `app.settings`, in upper case without their prefix. The lease is short so that
    the tests need not wait long for work whose worker was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    ours = {"DATA_DIR": str(folder), "PORT": str(port), "API_KEY": KEY, "LEASE_SECONDS": "3"} | settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIFFIN_")}
    environment |= {f"DIFFIN_{name}": value for name, value in ours.items()} | {"PYTHONUNBUFFERED": "1"}
    return Service(f"http://127.0.0.1:{port}", ours["API_KEY"], folder, environment, folder / "service.log")


@contextmanager
def embedded(folder: Path, **settings: str) -> Iterator[Service]:
    """`diffin serve`: API and worker, with SQLite, a broker of files and blobs below `folder`."""
    service = prepared(folder, **settings)
    with service.running("api", "serve"):
        service.wait_until_ready()
        yield service


@contextmanager
def production(
    folder: Path, database_url: str, broker_url: str, *, workers: int = 2, **settings: str
) -> Iterator[Service]:
    """`diffin migrate`, `diffin api` and so many `diffin worker`: the shape of docker-compose.yml."""
    urls = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "SECRET_KEY": "secret-of-the-tests"}
    service = prepared(folder, **{"THREADS": "1"} | urls | settings)
    service.migrate()
    with ExitStack() as stack:
        stack.enter_context(service.running("api", "api"))
        for number in range(1, workers + 1):
            stack.enter_context(service.running(f"worker {number}", "worker"))
        service.wait_until_ready()
        yield service
