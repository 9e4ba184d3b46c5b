"""The HTTP front end: one process, or several that answer on one port below a parent.

Each listens for itself (SO_REUSEPORT); the system gives each new connection to one of them. On its standard
output it gives a sign of life each second: by that the parent finds one that hangs, and it finds that the
parent is gone. Requests of keys and metrics they count together, in a folder that the parent makes.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import IO, cast

import uvicorn

from app import logs
from app.patience import allow_connections, patient
from app.settings import MIB, Settings
from app.store import keys
from app.store.db import Database
from app.supervision import COMMAND, Supervised, end_on_sigterm

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
GRACE_SECONDS = 5  # for requests in hand, once it is to stop
STOP_SECONDS = 20.0  # after which a process that is to stop counts as hanging
SILENT_SECONDS = 30.0  # after which any other does
MEMORY = Path("/dev/shm")  # noqa: S108  (a fresh folder is made in it)
SIGNS = 1  # standard output

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """`diffin api`: answers HTTP until Ctrl-C or SIGTERM."""
    refuse_guessable(settings)
    if settings.api_processes == 1 or settings.api_shared is not None:
        answer(settings)
    else:
        _have_answered(settings)


def refuse_guessable(settings: Settings) -> None:
    """Ends here, in words, when strangers could reach the API and find out its key."""
    if settings.public and (why := settings.guessable()):
        sys.exit(f"diffin  will not listen on {settings.host}, where others reach it: {why}")


def refuse_taken(settings: Settings) -> int:
    """The port to listen on. Ends here, in words, when somebody else listens there."""
    with socket.socket(_family(settings.host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as taken:
            sys.exit(
                f"diffin  cannot listen on {settings.host}:{settings.port} ({taken.strerror}): "
                "give another DIFFIN_PORT or DIFFIN_HOST"
            )
        port: int = probe.getsockname()[1]
    return port


def answer(settings: Settings) -> None:
    """Answers HTTP in this process."""
    _keep_freed_memory()
    allow_connections()
    logs.configure(settings)
    server = uvicorn.Server(_config(settings))
    with suppress(KeyboardInterrupt):  # raised again once the requests in hand are answered
        if settings.api_shared is None:
            server.run()
        else:
            _answer_beside_others(server, settings.api_shared)


def _have_answered(settings: Settings) -> None:
    """Has `api_processes` answer HTTP; ends where none of them can."""
    port = refuse_taken(settings)
    logs.configure(settings)
    end_on_sigterm()
    database = Database(settings.database_url)
    with database.transaction() as session:  # not theirs to do: one may start while the database is away
        keys.ensure_first(session, settings.secret, settings.first_key)
    database.engine.dispose()
    answered, hopeless = Event(), Event()
    processes: list[ApiProcess] = []
    log.info("%d processes are to answer on %s:%d", settings.api_processes, settings.host, port)
    with _shared_folder() as folder:
        try:
            with suppress(KeyboardInterrupt):
                for _ in range(settings.api_processes):
                    processes.append(ApiProcess(port, folder, answered, hopeless))
                hopeless.wait()
        finally:
            for process in processes:
                process.ask_to_stop()
            for process in processes:
                process.wait(STOP_SECONDS)
    if hopeless.is_set():
        sys.exit("diffin  the API cannot start: see above")


class ApiProcess(Supervised):
    """One of several. It sets `answered` once it answers, and `hopeless` when it ends before any ever did."""

    name = "a process of the API"

    def __init__(self, port: int, folder: Path, answered: Event, hopeless: Event) -> None:
        self._answered, self._hopeless = answered, hopeless
        self._environment = os.environ | {
            "DIFFIN_PORT": str(port),
            "DIFFIN_API_SHARED": str(folder),
            "PROMETHEUS_MULTIPROC_DIR": str(folder),  # read when the library is imported
        }
        super().__init__()

    def start(self) -> subprocess.Popen[bytes]:
        # A session of its own keeps Ctrl-C, sent to a terminal's whole group, from reaching it.
        return subprocess.Popen(
            [*COMMAND, "api"],
            stdout=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        """Reads the signs of life of the process until they end; kills it when they fail to come."""
        with cast(IO[bytes], process.stdout) as signs:
            longest = None  # it takes as long as it takes to start
            while select.select([signs], [], [], longest)[0]:
                if not os.read(signs.fileno(), 1024):
                    break
                longest = SILENT_SECONDS
                self._answered.set()
            else:
                log.error("process %d of the API gave no sign for %g s", process.pid, SILENT_SECONDS)
                process.kill()
        status = process.wait()
        if not self._answered.is_set() and not self._stopping.is_set():
            self._hopeless.set()
        return status


def _answer_beside_others(server: uvicorn.Server, folder: Path) -> None:
    """Answers for as long as the parent is there."""
    orphan = False

    async def give_a_sign() -> None:
        nonlocal orphan
        try:
            os.write(SIGNS, b".")
        except BrokenPipeError:
            orphan = server.should_exit = True

    config = server.config
    config.callback_notify, config.timeout_notify = give_a_sign, 0
    with socket.socket(_family(config.host)) as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((config.host, config.port))
        server.run([shared])  # which listens once it can answer
    if orphan:
        shutil.rmtree(folder, ignore_errors=True)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=1,  # whatever WEB_CONCURRENCY says: uvicorn's ends all when one cannot start
        log_level=settings.log_level.lower(),
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
        http=patient(settings.head_seconds),
        log_config=None,  # as `logs` has it
        access_log=False,  # the middleware tells of requests, with their ids
    )


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """In memory where the system has such a place: writing to a mapped file kills when its disk is full."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="diffin-api-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _keep_freed_memory() -> None:
    """Has glibc keep some memory that was freed, for what comes next.

    A body arrives in pieces of 256 KiB, each copied several times on its way. Left alone, malloc gives each
    copy's pages back to the system and asks for them again: of the 1.8 s that parsing 1 GB takes a core, 1.1.
    """
    with suppress(OSError, AttributeError):  # another library has no such knobs
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 16 * MIB)
        libc.mallopt(M_MMAP_THRESHOLD, 4 * MIB)
