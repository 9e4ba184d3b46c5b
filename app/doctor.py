"""`diffin doctor`: whether a deployment stands, part by part, and what to mend where it does not."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import httpx
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

import migrations
from app import queue, reach, uris
from app.settings import GIB, Settings
from app.store import blobs, keys, workers
from app.store.db import Database, database_epoch

MOST_SKEW = 5.0  # seconds; leases go by the database's clock, signatures and expiries by this one's
SILENT_SECONDS = 30.0
OTHERS = stat.S_IRWXG | stat.S_IRWXO
API_SECONDS = 10.0  # its checks ask every part themselves


class Finding(NamedTuple):
    """What was found of one part; `mend` says what to do, and is empty where all is well."""

    part: str
    found: str
    mend: str = ""


class Bad(Exception):  # noqa: N818  (a finding, not an accident)
    """What is wrong, and what to do."""

    def __init__(self, found: str, mend: str) -> None:
        super().__init__(found)
        self.found, self.mend = found, mend


def examine(
    settings: Settings, now: Callable[[], float] = time.time, *, url: str | None = None
) -> Iterator[Finding]:
    """Every part in turn. What depends on the database is left out where that does not answer.

    Args:
        url: where the API answers; the embedded one is looked for where the settings have it listen.
    """
    yield from contradictions(settings)
    database = Database(settings.database_url)
    reached = _part("database", lambda: _database(database, settings))
    yield reached
    if not reached.mend:
        yield _part("migrations", lambda: _migrations(database, settings))
        yield _part("clock", lambda: _clock(database, now))
        yield _part("keys", lambda: _keys(database, settings))
        yield _part("workers", lambda: _workers(database))
        if settings.embedded:
            yield _part("files", lambda: _files(settings))
    yield _part("broker", lambda: _broker(settings))
    yield _part("storage", lambda: _storage(settings))
    for prefix in uris.prefixes(settings.uri_prefixes):
        yield _part("store", partial(_store, settings, prefix))
    yield _part("api", lambda: _api(settings, url))
    database.engine.dispose()


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Settings that do not go together."""
    wrong: list[tuple[str, str]] = []
    files = settings.broker_url.startswith("filesystem")
    if not settings.embedded and settings.secret_key is None:
        wrong.append(
            (
                "PostgreSQL is shared, but each machine makes its own secret",
                "set DIFFIN_SECRET_KEY to the same text for API and workers (openssl rand -hex 32)",
            )
        )
    if not settings.embedded and files:
        wrong.append(
            (
                "PostgreSQL is shared, but the broker is a folder of this machine",
                "set DIFFIN_BROKER_URL=redis://…, or keep API and workers on one machine",
            )
        )
    if settings.embedded and not files:
        wrong.append(
            (
                "the broker is shared, but the database is a file of this machine",
                "set DIFFIN_DATABASE_URL=postgresql://…, or leave DIFFIN_BROKER_URL out",
            )
        )
    if settings.public and settings.api_key is None and settings.embedded:
        wrong.append(
            (
                f"the API listens on {settings.host} with the key that lies in {settings.data_dir}",
                "set DIFFIN_API_KEY, or DIFFIN_HOST=127.0.0.1",
            )
        )
    if settings.webhook_log_days * 86_400 < sum(settings.webhook_retry_seconds):
        wrong.append(
            (
                "deliveries are forgotten before their last attempt",
                "raise DIFFIN_WEBHOOK_LOG_DAYS, or shorten DIFFIN_WEBHOOK_RETRY_SECONDS",
            )
        )
    for found, mend in wrong:
        yield Finding("settings", found, mend)
    if not wrong:
        yield Finding("settings", "go together")


def _part(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, check())
    except Bad as bad:
        return Finding(name, bad.found, bad.mend)


def _database(database: Database, settings: Settings) -> str:
    try:
        file = settings.data_dir / "diffin.db"
        if settings.database_url == f"sqlite:///{file}" and not file.exists():
            raise Bad(
                f"there is none in {settings.data_dir.absolute()}, the data folder by the settings here",
                "set DIFFIN_DATA_DIR to the data folder of your service (`.diffin` where it was started), or "
                "DIFFIN_DATABASE_URL to its database; `diffin migrate` makes a new one. An API that answers "
                "below may be of another folder",
            )
        database.check()
    except SQLAlchemyError as problem:
        raise Bad(
            f"does not answer: {_first_line(problem)}", "check DIFFIN_DATABASE_URL and the server"
        ) from problem
    return database.engine.url.render_as_string(hide_password=True)


def _migrations(database: Database, settings: Settings) -> str:
    head = ScriptDirectory.from_config(migrations.config(settings.database_url)).get_current_head()
    with database.engine.connect() as connection:
        at = MigrationContext.configure(connection).get_current_revision()
    if at != head:
        raise Bad(
            f"the schema is at {at}, this version ({version('diffin')}) wants {head}",
            "run `diffin migrate`; where the database is the newer one, install the newer version here",
        )
    return f"at {head}"


def _clock(database: Database, now: Callable[[], float]) -> str:
    with database.snapshot() as session:
        before = now()
        skew = database_epoch(session) - (before + now()) / 2
    if abs(skew) > MOST_SKEW:
        raise Bad(
            f"the database's clock and this machine's differ by {skew:+.1f} s",
            "have both follow a time server (NTP): signatures, sessions and leases go by them",
        )
    return f"differs from the database's by {abs(skew):.1f} s"


def _keys(database: Database, settings: Settings) -> str:
    if settings.api_key is None and not settings.embedded:
        return "not checked: DIFFIN_API_KEY is not set here"
    try:
        with database.snapshot() as session:
            known = keys.find(session, settings.secret, settings.first_key)
    except SQLAlchemyError as problem:
        raise Bad(f"cannot be read: {_first_line(problem)}", "run `diffin migrate`") from problem
    if known is None:
        raise Bad(
            "the first key opens nothing",
            "start the API once, which makes it; else DIFFIN_SECRET_KEY (or the file `secret`) is not the one"
            " that the keys were made with: restore it",
        )
    return "the first key opens the service"


def _workers(database: Database) -> str:
    try:
        with database.snapshot() as session:
            alive = workers.alive(session, SILENT_SECONDS)
    except SQLAlchemyError as problem:
        raise Bad(f"cannot be read: {_first_line(problem)}", "run `diffin migrate`") from problem
    if not alive:
        raise Bad(
            "none was heard of in the last half minute", "start one: `diffin worker`; its log says more"
        )
    served = {name for worker in alive for name in worker.queues}
    if missing := {"cpu", "gpu"} - served:
        raise Bad(
            f"nobody serves the queue {' or '.join(sorted(missing))}",
            f"start a worker with `diffin worker --queues {','.join(sorted(missing))}`",
        )
    ours = version("diffin")
    if others := sorted({f"{worker.id} has {worker.version}" for worker in alive if worker.version != ours}):
        raise Bad(
            f"versions differ: {', '.join(others)}, here it is {ours}", "install one version everywhere"
        )
    return f"{len(alive)} alive, version {ours}, on {', '.join(sorted({one.device for one in alive}))}"


def _files(settings: Settings) -> str:
    """Those that the service makes now are its account's alone; older ones may not be."""
    folder, file = settings.data_dir, settings.data_dir / "diffin.db"
    if file.exists() and all(stat.S_IMODE(one.stat().st_mode) & OTHERS for one in (folder, file)):
        raise Bad(
            f"other accounts of this machine can read what lies in {folder}", f"run `chmod -R go= {folder}`"
        )
    return "are this account's alone"


def _broker(settings: Settings) -> str:
    celery = queue.producer(settings)
    try:
        queue.check(celery)
    except (OperationalError, OSError) as problem:
        raise Bad(
            f"does not answer: {_first_line(problem)}",
            "check DIFFIN_BROKER_URL and the server; work waits until it answers, and none is lost",
        ) from problem
    finally:
        celery.close()
    return settings.broker_url.split("@")[-1]


def _storage(settings: Settings) -> str:
    try:
        store = blobs.opened(settings.blob_url, settings.blob_dir, settings.blob_cache_bytes)
        store.check()
        free = store.free()
    except (OSError, ValueError) as problem:
        remote = settings.blob_url.startswith("s3:")
        mend = (
            "check DIFFIN_BLOB_URL, AWS_ENDPOINT_URL, AWS_REGION and the AWS_… credentials: the bucket must "
            "be there, and they may read, write, list and delete in it"
            if remote
            else "check DIFFIN_BLOB_URL and who owns the folder"
        )
        raise Bad(f"cannot be written to: {_first_line(problem)}", mend) from problem
    if free < settings.max_upload_bytes:
        raise Bad(
            f"{free / GIB:,.1f} GiB are free, less than one upload may take",
            "make room (DIFFIN_RETENTION_DAYS deletes what is old), or lower DIFFIN_MAX_UPLOAD_BYTES",
        )
    where = f"{settings.blob_url}, through " if settings.blob_url.startswith("s3:") else ""
    return f"{where}{settings.blob_dir}, {free / GIB:,.1f} GiB free"


def _store(settings: Settings, prefix: str) -> str:
    try:
        reach.check(settings, prefix)
    except OSError as problem:
        raise Bad(
            f"{prefix} cannot be read from: {_first_line(problem)}",
            "mount the folder, or see to the AWS_… variables or DIFFIN_URI_ALLOW, here and for workers; or "
            "take the prefix out of DIFFIN_URI_PREFIXES",
        ) from problem
    return f"{prefix} answers"


def _api(settings: Settings, url: str | None) -> str:
    where = url or _listening(settings)
    if where is None:
        return "not checked: where it answers is not known here; give --url, or set DIFFIN_URL"
    start = "start it (`diffin serve`, `diffin api`), or give the address it has: --url, DIFFIN_URL"
    try:
        alive = httpx.get(f"{where.rstrip('/')}/livez", timeout=API_SECONDS)
        ready = httpx.get(f"{where.rstrip('/')}/readyz", timeout=API_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        raise Bad(f"does not answer at {where}: {_first_line(problem)}", start) from problem
    if alive.status_code != 200 or '"alive"' not in alive.text:
        raise Bad(f"what answers at {where} is another program ({alive.status_code})", start)
    if ready.status_code != 200:
        told = ready.json().get("detail", "") if "json" in ready.headers.get("content-type", "") else ""
        raise Bad(
            f"answers at {where}, but is not ready ({ready.status_code}): {told}",
            "mend what it names; what is well here may be out of reach from its machine",
        )
    return f"answers at {where}"


def _listening(settings: Settings) -> str | None:
    """Where the API of this machine listens; None where it may be on another, or took a free port."""
    if not settings.embedded or not settings.port:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  (all of them)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0] or type(problem).__name__
