"""A private PostgreSQL and a private Redis on free ports: started for the tests, gone with them."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import redis
from psycopg.sql import SQL, Identifier

START_SECONDS = 60.0


@dataclass(frozen=True)
class PostgresServer:
    """A running server; databases on it are made and dropped by name. Its data are below `folder`, and it
    runs as `user`.
    """

    port: int
    folder: Path
    user: str | None

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://diffin@127.0.0.1:{self.port}/{database}"

    def _run(self, statement: str, *names: str) -> None:
        conninfo = f"postgresql://diffin@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(SQL(statement).format(*map(Identifier, names)))

    def create(self, database: str, template: str = "template1") -> str:
        """A new database, copied from `template`; returns its URL."""
        self._run("CREATE DATABASE {} TEMPLATE {}", database, template)
        return self.url(database)

    @contextmanager
    def fresh(self, template: str = "template1") -> Iterator[str]:
        """The URL of a database of one's own, dropped at the end with whatever is still connected."""
        database = f"test_{uuid4().hex}"
        yield self.create(database, template)
        self._run("DROP DATABASE {} WITH (FORCE)", database)

    def control(self, *what: str) -> None:
        """`pg_ctl`: `"restart", "--mode", "immediate"` ends it as a crash would and starts it anew; it
        answers when this returns.
        """
        data = ["--pgdata", str(self.folder / "data")]
        command = [_postgres_program("pg_ctl"), *what, *data, "--wait", "--silent"]
        with (self.folder / "log").open("a") as log:  # which the server keeps open: no pipe to wait for
            subprocess.run(command, check=True, user=self.user, cwd=self.folder, stdout=log, stderr=log)


@contextmanager
def postgres(**options: str) -> Iterator[PostgresServer]:
    """A server without durability: its folder is as short-lived as it is.

    It may lose what was committed last when it is killed, unless `options` say `synchronous_commit="on"`.
    """
    with _scratch("diffin-postgres-") as (folder, user), (folder / "log").open("w") as log:
        data = folder / "data"
        initdb = [
            _postgres_program("initdb"),
            "--pgdata",
            str(data),
            "--username",
            "diffin",
            "--auth",
            "trust",
        ]
        initdb += ["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        subprocess.run(initdb, check=True, user=user, cwd=folder, stdout=log, stderr=log)
        server = PostgresServer(free_port(), folder, user)
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "300",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "port": str(server.port),
        } | options
        with (data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        server.control("start")
        try:
            yield server
        finally:
            with suppress(subprocess.CalledProcessError):  # a test may have stopped it
                server.control("stop", "--mode", "fast")


@dataclass
class RedisServer:
    """A server that keeps nothing on disk, to be stopped and started."""

    port: int
    folder: Path
    user: str | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Without a database index."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """It answers when this returns."""
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is missing: apt-get install redis-server")
        command = [
            program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, user=self.user, stdout=log, stderr=log, start_new_session=True
            )
        with redis.Redis(port=self.port) as client:
            _await(client.ping, redis.ConnectionError, self.process, self.folder / "log")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)

    def flush(self) -> None:
        """Forgets everything."""
        with redis.Redis(port=self.port) as client:
            client.flushall()


@contextmanager
def controlled_redis() -> Iterator[RedisServer]:
    """A running server of one's own."""
    with _scratch("diffin-redis-") as (folder, user):
        server = RedisServer(free_port(), folder, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a server that keeps nothing on disk, without a database index."""
    with controlled_redis() as server:
        yield server.url


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of moto's S3, which keeps its buckets in memory and believes any credentials."""
    with _scratch("diffin-s3-") as (folder, _):
        url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with _running(command, folder, None, stop=signal.SIGTERM) as process:
            _await(lambda: httpx.get(url), httpx.TransportError, process, folder / "log")
            yield url


@contextmanager
def prometheus(scraped: str, rules: Path) -> Iterator[str]:
    """The URL of a Prometheus that scrapes that address twice a second, as the job `diffin`, by `rules`."""
    with _scratch("diffin-prometheus-") as (folder, _):
        target = {"job_name": "diffin", "static_configs": [{"targets": [scraped.removeprefix("http://")]}]}
        often = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        told = {"global": often, "rule_files": [str(rules)], "scrape_configs": [target]}
        (folder / "prometheus.yml").write_text(json.dumps(told))  # of YAML, JSON is a part
        address = f"127.0.0.1:{free_port()}"
        command = ["prometheus", f"--web.listen-address={address}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--config.file={folder / 'prometheus.yml'}"]
        with _running(command, folder, None, stop=signal.SIGTERM) as process:
            ready = f"http://{address}/-/ready"
            _await(lambda: httpx.get(ready).raise_for_status(), httpx.HTTPError, process, folder / "log")
            yield f"http://{address}"


def s3_environment(url: str) -> dict[str, str]:
    """The variables by which the service finds that server."""
    credentials = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "secret"}
    return credentials | {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _postgres_program(name: str) -> str:
    """Debian keeps the server's programs off the path, in a folder a version: the newest is taken."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = shutil.which(name, path=os.pathsep.join([*map(str, reversed(folders)), os.environ["PATH"]]))
    if found is None:
        raise FileNotFoundError(f"{name} is missing: apt-get install postgresql")
    return found


@contextmanager
def _scratch(prefix: str) -> Iterator[tuple[Path, str | None]]:
    """A folder, and the user to run a server as in it: PostgreSQL refuses to be root."""
    user = "postgres" if os.geteuid() == 0 else None
    # not pytest's own folders: nobody but the user who runs pytest may enter those
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        if user:
            os.chown(name, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        yield Path(name), user


@contextmanager
def _running(
    command: list[str], folder: Path, user: str | None, stop: signal.Signals
) -> Iterator[subprocess.Popen[bytes]]:
    # a session of its own: Ctrl-C must reach the tests first, which then stop the server
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, user=user, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(
    answers: Callable[[], object],
    refusal: type[Exception],
    process: subprocess.Popen[bytes],
    log: Path,
) -> None:
    """Waits until `answers` raises no `refusal`. Raises RuntimeError, with the log, when it never does."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            answers()
        except refusal as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} does not answer:\n{log.read_text()}") from error
            time.sleep(0.05)
        else:
            return
