"""The service under attack, in its two shapes: processes that can be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from app import queue
from app.settings import Settings
from app.store import workers
from app.store.db import Database, Message
from tests import servers, services
from tests.chaos.processes import children
from tests.chaos.storm.watch import Watch
from tests.servers import PostgresServer, RedisServer
from tests.services import Service

LEASE = 2.0  # seconds
WORKERS = {"production": 4, "embedded": 2}
SETTINGS = {
    "LEASE_SECONDS": str(LEASE),
    "BLOCK_SECONDS": "0.02",  # many units a job: a fault hits its middle
    "MAX_ATTEMPTS": "20",  # one unit may be hit again and again
    "THREADS": "1",
    "REQUESTS_PER_SECOND": "1000",
}


@dataclass
class House:
    """A running service, and what it stands on."""

    service: Service
    database: Database
    postgres: PostgresServer | None = None
    redis: RedisServer | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    started: int = 0

    @property
    def shape(self) -> str:
        return "production" if self.postgres else "embedded"

    # ---------------------------------------------------------------- processes
    @property
    def api(self) -> subprocess.Popen[bytes]:
        return self.service.process

    def workers(self) -> list[int]:
        """Process ids of the workers that live."""
        if self.postgres:
            named = self.service.processes.items()
            return [process.pid for name, process in named if name != "api" and process.poll() is None]
        return [pid for pid in children(self.api.pid) if b"worker" in _command(pid)]

    def heard_of(self) -> set[str]:
        """The workers whose heart beats, by owner."""
        return Watch(self.database).look(
            lambda session: {worker.id for worker in workers.alive(session, 2 * LEASE)}
        )

    def start_api(self) -> None:
        command = "api" if self.postgres else "serve"
        self.stack.enter_context(self.service.running("api", command))
        services.wait_for_http(self.service)

    def kill(self, *pids: int) -> None:
        """SIGKILL; they are gone when this returns."""
        for pid in pids:
            send_signal(pid, signal.SIGKILL)
        self.wait_for_end(*pids)

    def wait_for_end(self, *pids: int, seconds: float = 60) -> None:
        """Returns once none of these workers lives."""
        end = time.monotonic() + seconds
        while set(pids) & set(self.workers()):
            if time.monotonic() > end:
                raise TimeoutError(f"a worker of {pids} does not end\n{self.service.log_tail()}")
            time.sleep(0.01)

    def start_workers(self) -> None:
        """As many as there were before; embedded, the API's process sees to that."""
        while self.postgres and len(self.workers()) < WORKERS[self.shape]:
            self.started += 1
            self.stack.enter_context(self.service.running(f"worker {self.started}", "worker"))

    def complete(self) -> bool:
        """Whether as many workers are heard of as there should be."""
        living = {owner(pid) for pid in self.workers()}
        return len(self.heard_of() & living) >= WORKERS[self.shape]

    def wait_until_complete(self, seconds: float = 30) -> None:
        """Returns once they are, or that long is waited."""
        end = time.monotonic() + seconds
        while not self.complete() and time.monotonic() < end:
            self.start_workers()
            time.sleep(0.1)

    def wait_for_others(self, than: set[str], seconds: float = 120) -> None:
        """Returns once a worker is heard of that is none of these."""
        end = time.monotonic() + seconds
        while not self.heard_of() - than:
            if time.monotonic() > end:
                raise TimeoutError(f"no other worker started\n{self.service.log_tail()}")
            time.sleep(0.02)

    def writable(self) -> bool:
        """Whether nobody sits on the one lock that writers to SQLite share."""
        if self.postgres:
            return True
        with closing(sqlite3.connect(self.service.data_dir / "diffin.db", timeout=0.5)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            return True

    # ---------------------------------------------------------------- messages
    def send(self, messages: Sequence[Message], draw: Random) -> None:
        """These messages, in an order of their own."""
        shuffled = list(messages)
        draw.shuffle(shuffled)
        names = {"data_dir": "DIFFIN_DATA_DIR", "broker_url": "DIFFIN_BROKER_URL"}
        told = {name: self.service.environment.get(variable, "") for name, variable in names.items()}
        celery = queue.producer(Settings(data_dir=Path(told["data_dir"]), broker_url=told["broker_url"]))
        queue.ring(celery, shuffled)
        celery.close()

    def lose_messages(self) -> None:
        """All that the broker holds."""
        if self.redis:
            self.redis.flush()
            return
        for message in (self.service.data_dir / "broker" / "messages").glob("*.msg"):
            message.unlink(missing_ok=True)  # a worker may just have taken it


@contextmanager
def production(folder: Path) -> Iterator[House]:
    """API and workers on a PostgreSQL and a Redis of their own."""
    with (
        servers.postgres(synchronous_commit="on") as postgres,  # what was committed outlives a crash
        servers.controlled_redis() as redis,
    ):
        url = postgres.create("storm")
        urls = {"DATABASE_URL": url, "BROKER_URL": f"{redis.url}/0", "SECRET_KEY": "secret-of-the-storm"}
        service = services.prepared(folder, **SETTINGS | urls)
        service.migrate()
        ours = f"{url}?application_name=storm"  # so that we do not cut our own connection
        yield from _running(House(service, Database(ours), postgres, redis))


@contextmanager
def embedded(folder: Path) -> Iterator[House]:
    """`diffin serve` with two workers."""
    service = services.prepared(folder, **SETTINGS, WORKERS=str(WORKERS["embedded"]))
    service.migrate()
    yield from _running(House(service, Database(f"sqlite:///{folder / 'diffin.db'}")))


def _running(house: House) -> Iterator[House]:
    try:
        with house.stack:
            house.start_api()
            house.start_workers()
            house.service.wait_until_ready()
            yield house
    finally:
        house.database.engine.dispose()


def owner(pid: int) -> str:
    """The name that the worker of this process has in the database."""
    return f"{os.uname().nodename}:{pid}"


def send_signal(pid: int, what: signal.Signals) -> None:
    """To a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, what)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
