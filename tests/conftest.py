"""Fixtures of every test: the databases, each of its own and migrated, and the service in its two shapes."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest
import redis

import migrations
from app.store.blobs import BlobStore
from app.store.db import Database
from tests import servers, services
from tests.servers import PostgresServer
from tests.services import Service


def pytest_configure() -> None:
    # SIGTERM as Ctrl-C, so that the servers and services are stopped then as well
    signal.signal(signal.SIGTERM, _interrupt)
    if "PYTEST_XDIST_WORKER" in os.environ:  # the processes side by side share the cores, services included
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of the log of the services it used."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Service):
                report.sections.append((f"log of {name}", value.log_tail()))
    return report


# ---------------------------------------------------------------- servers
@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    with servers.redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with servers.s3_server() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty Redis database that no service of the session uses."""
    with redis.Redis.from_url(url := f"{redis_server}/1") as client:
        client.flushdb()
    return url


# ---------------------------------------------------------------- databases
@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a migrated database: copying it takes a tenth of the time of migrating another."""
    migrations.upgrade(postgres.create("migrated"))
    return "migrated"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrations.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A migrated PostgreSQL database of the test's own."""
    with postgres.fresh(postgres_template) as url:
        yield url


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of the test's own."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'diffin.db')}"


@pytest.fixture(params=["sqlite_url", "postgres_url"], ids=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of the test's own: the test runs once on each kind."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.engine.dispose()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


# ---------------------------------------------------------------- services
@pytest.fixture(scope="session")
def embedded_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`diffin serve` on SQLite, shared by the tests of the session; a folder holds files to name by `uri`."""
    sets = f"file://{tmp_path_factory.mktemp('sets')}/"
    with services.embedded(tmp_path_factory.mktemp("embedded"), URI_PREFIXES=sets) as service:
        yield service


@pytest.fixture(scope="session")
def production_service(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, redis_server: str
) -> Iterator[Service]:
    """An API of two processes and two workers on PostgreSQL and Redis, shared by the tests of the session."""
    folder, redis = tmp_path_factory.mktemp("production"), f"{redis_server}/0"
    with postgres.fresh() as url, services.production(folder, url, redis, API_PROCESSES="2") as service:
        yield service
