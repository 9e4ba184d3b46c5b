"""The service in one command: migrate, then API and separate workers, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from types import FrameType

import uvicorn

from app import logs
from app.patience import allow_connections, patient
from app.settings import MIB, Settings
from app.store import keys, sessions
from app.store.db import Database

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LINK_SECONDS = 600.0
COMMAND = [sys.executable, "-m", "diffin.cli"]


def api(settings: Settings | None = None) -> None:
    """Serves the HTTP front end alone."""
    settings = settings or Settings()
    _refuse_guessable(settings)
    keep_freed_memory()
    allow_connections()
    logs.configure(settings)
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level.lower(),
        timeout_graceful_shutdown=5,
        server_header=False,
        http=patient(settings.head_seconds),
        log_config=None,  # as `logs` has it
        access_log=False,  # the middleware tells of requests, with their ids
    )


def keep_freed_memory() -> None:
    """Has glibc keep some memory that was freed, for what comes next.

    A body arrives in pieces of 256 KiB, each copied several times on its way. Left alone, malloc gives each
    copy's pages back to the system and asks for them again: of the 1.8 s that parsing 1 GB takes a core, 1.1.
    """
    with suppress(OSError, AttributeError):  # another library has no such knobs
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 16 * MIB)
        libc.mallopt(M_MMAP_THRESHOLD, 4 * MIB)


def serve(settings: Settings | None = None) -> None:
    """Serves API and workers; all are stopped, and the work in hand finished, before this returns."""
    settings = settings or Settings()
    _refuse_guessable(settings)
    _refuse_if_taken(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    subprocess.run([*COMMAND, "migrate"], check=True)
    signal.signal(signal.SIGTERM, _interrupt)
    workers = [SupervisedWorker() for _ in range(settings.workers)]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{settings.port}"
    print(f"diffin  {address}  docs at /docs\nkey     {settings.first_key}", flush=True)
    if (link := _invitation(settings)) is not None:
        print(f"page    {address}/sign-in?link={link}  (works once, for 10 minutes)", flush=True)
    try:
        with suppress(KeyboardInterrupt):
            api(settings)
    finally:
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            worker.wait()


def _invitation(settings: Settings) -> str | None:
    """A token that signs a browser in, so that nobody has to paste the key; None once that is revoked."""
    database = Database(settings.database_url)
    with database.transaction() as session:
        keys.ensure_first(session, settings.secret, settings.first_key)
        key = keys.find(session, settings.secret, settings.first_key)
        token = sessions.invite(session, settings.secret, key.id, LINK_SECONDS) if key else None
    database.engine.dispose()
    return token


def _refuse_guessable(settings: Settings) -> None:
    """Ends here, in words, when strangers could reach the API and find out its key."""
    if settings.public and (why := settings.guessable()):
        sys.exit(f"diffin  will not listen on {settings.host}, where others reach it: {why}")


def _refuse_if_taken(settings: Settings) -> None:
    """Ends here, in words, when somebody else listens where the API is to: before a worker is started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as taken:
            sys.exit(
                f"diffin  cannot listen on {settings.host}:{settings.port} ({taken.strerror}): "
                "give another DIFFIN_PORT or DIFFIN_HOST"
            )


class SupervisedWorker:
    """The worker process, started again when it dies of anything but our asking."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def ask_to_stop(self) -> None:
        self._stopping.set()
        self._process.terminate()

    def wait(self) -> None:
        """Returns once the worker has finished what it had in hand."""
        self._thread.join()

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own keeps Ctrl-C, sent to a terminal's whole group, from reaching the worker.
        environment = os.environ | {"DIFFIN_EXIT_WITH_PARENT": "1"}
        return subprocess.Popen([*COMMAND, "worker"], start_new_session=True, env=environment)

    def _watch(self) -> None:
        while True:
            status = self._process.wait()
            if self._stopping.wait(1.0):
                break
            print(f"diffin  the worker ended with {status}: starting another", file=sys.stderr, flush=True)
            self._process = self._start()
        if self._process.poll() is None:  # started in the moment of stopping
            self._process.terminate()
            self._process.wait()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
