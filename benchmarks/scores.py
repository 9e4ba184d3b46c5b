"""What the scores of 10,000,000 samples cost on PostgreSQL: written, read by pages, deleted; five such jobs.

Scores are written as a worker writes them. A page is the top 100, or the 100 after a row drawn at random, in
each order. In the database: the statements that the service makes, by psycopg, rows fetched. Over HTTP: 50
clients at once that ask again as soon as they are answered, and 50 that ask 50 pages a second together. Asked
of p99: 5 ms in the database, 25 ms over HTTP; of deletion 1 s. SQLite is measured at its limit
(DIFFIN_SQLITE_SAMPLES). With --quick 200,000 samples and two jobs.

    python benchmarks/scores.py [--quick] [--samples N] [--jobs 5] [--databases postgresql,sqlite]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from sqlalchemy import event, text  # noqa: E402

import migrations  # noqa: E402
from app.api.pagination import Paging  # noqa: E402
from app.settings import Settings  # noqa: E402
from app.store import keys, orders, partitions, scores  # noqa: E402
from app.store.db import Database  # noqa: E402
from app.store.tables import Dataset, Job, Trajectory  # noqa: E402
from benchmarks.exports import job_of  # noqa: E402
from benchmarks.lab.bars import bar, parser, table  # noqa: E402
from benchmarks.lab.load import Request, at_a_rate, errors, in_turns, milliseconds  # noqa: E402
from tests import servers, services  # noqa: E402
from tests.services import Service  # noqa: E402

LARGE, QUICK = 10_000_000, 200_000
ORDERS = tuple(orders.KEYS)
CLIENTS, SECONDS, RATE = 50, 20.0, 50.0
PAGES = 400  # of each order
LIMIT = 100
AT = (("median", 0.5), ("p99", 0.99))
IN_DATABASE, OVER_HTTP, DELETED = 5.0, 25.0, 1.0  # ms, ms, s
LOCKED = 60.0  # s that others wait for SQLite


@contextmanager
def clocked(database: Database) -> Iterator[list[float]]:
    """Milliseconds of each statement."""
    spent: list[float] = []

    def before(_c: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: Any) -> None:
        context.begun = time.perf_counter()

    def after(_c: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: Any) -> None:
        spent.append(1000 * (time.perf_counter() - context.begun))

    for name, listener in (("before_cursor_execute", before), ("after_cursor_execute", after)):
        event.listen(database.engine, name, listener)
    yield spent
    for name, listener in (("before_cursor_execute", before), ("after_cursor_execute", after)):
        event.remove(database.engine, name, listener)


def written(database: Database, n: int) -> tuple[str, float, float]:
    """(a job with scores, seconds of making and writing them, gigabytes that they take)."""
    with clocked(database) as statements:
        started = time.perf_counter()
        job_id = job_of(database, n)
        seconds = time.perf_counter() - started
    print(f"  wrote {job_id}; longest statement {max(statements) / 1000:.1f} s", flush=True)
    size = 0.0
    with database.transaction() as session:
        job = session.get_one(Job, job_id)
        job.method = {"name": "diff_in", "resolution": "segments"}
        job.result = {"num_samples": n, "suspicion": True, "self_influence": True, "warnings": []}
        for row in (
            job,
            session.get_one(Dataset, job.train_dataset_id),
            session.get_one(Trajectory, job.trajectory_ids[0]),
        ):
            row.project_id = keys.DEFAULT_PROJECT
        if not database.engine.url.drivername.startswith("sqlite"):
            told = text(f"SELECT pg_total_relation_size('{partitions.table(job_id)}')")
            size = session.execute(told).scalar_one() / 1e9
    return job_id, seconds, size


def positions(database: Database, job_id: str, order: str, n: int, count: int) -> list[list[Any]]:
    """Where rows drawn at random stand in an order."""
    drawn = np.random.default_rng(1).integers(0, n, count).tolist()
    with database.snapshot() as session:
        rows = scores.some(session, job_id, drawn)
    return [[getattr(row, column.key) for column, _ in orders.KEYS[order]] for row in rows.values()]


def in_database(database: Database, job_id: str, n: int, order: str, *, top: bool) -> tuple[float, float]:
    """(median, p99) milliseconds of a page's statements."""
    places = [None] * PAGES if top else positions(database, job_id, order, n, PAGES)
    found = []
    with clocked(database) as spent, database.snapshot() as session:
        for after in places:
            spent.clear()
            orders.page(session, job_id, order, LIMIT + 1, after=after)
            found.append(sum(spent))
    low, high = np.quantile(found, (0.5, 0.99))
    return float(low), float(high)


def bare(database: Database, job_id: str, n: int) -> float:
    """Median milliseconds of the plain statement for a page of ranks, by the driver alone."""
    names = ", ".join(column.name for column in orders.TOLD)
    statement = f"SELECT {names} FROM scores WHERE job_id = ? AND rank > ? ORDER BY rank LIMIT 101"  # noqa: S608
    if database.engine.dialect.name == "postgresql":
        statement = statement.replace("?", "%s")
    found, draw = [], np.random.default_rng(2)
    connection = database.engine.raw_connection()
    try:
        cursor = connection.cursor()
        for rank in draw.integers(0, n - LIMIT, PAGES).tolist():
            started = time.perf_counter()
            cursor.execute(statement, (job_id, rank))
            cursor.fetchall()
            found.append(1000 * (time.perf_counter() - started))
    finally:
        connection.close()
    return float(np.median(found))


def requests(database: Database, secret: bytes, jobs: list[str], n: int) -> list[Request]:
    """Pages of the jobs in every order, half of them the first, the others each at another place."""
    found = []
    for job_id in jobs:
        for order in ORDERS:
            plain = f"/v1/jobs/{job_id}/scores?order={order}&limit={LIMIT}"
            binding = "scores", job_id, order, None, None, None, None
            for after in positions(database, job_id, order, n, PAGES // len(jobs)):
                here = Paging(1, None, secret).cut([after, after], lambda row: row, *binding)
                found.append(Request("page", "GET", f"{plain}&cursor={here[1]}"))
                found.append(Request("page", "GET", plain))
    return found


def over_http(service: Service, asked: list[Request], seconds: float) -> dict[str, float]:
    """Milliseconds and pages a second of a real API process."""
    draw = np.random.default_rng(3)

    def following() -> Request:
        return asked[draw.integers(len(asked))]

    with service.running("api", "api"):
        services.wait_for_http(service)
        asyncio.run(in_turns(service.url, service.key, 4, 3, following))  # what it keeps is there then
        alone = asyncio.run(in_turns(service.url, service.key, 1, seconds / 2, following))
        busy = asyncio.run(in_turns(service.url, service.key, CLIENTS, seconds, following))
        paced = asyncio.run(at_a_rate(service.url, service.key, CLIENTS, RATE, seconds, following))
    for found in (alone, busy, paced):
        assert not errors(found), errors(found)[0]
    told = {"one client": alone, "50 clients": busy, "50 a second": paced}
    figures = {f"{name}, {at}": milliseconds(one, share) for name, one in told.items() for at, share in AT}
    return figures | {"pages a second": len(busy) / seconds}


def deleted(database: Database, service: Service, job_id: str) -> float:
    """Seconds of DELETE over HTTP."""
    with service.running("api", "api"), service.client() as http:
        services.wait_for_http(service)
        http.get(f"/v1/jobs/{job_id}").raise_for_status()
        started = time.perf_counter()
        http.delete(f"/v1/jobs/{job_id}", timeout=600).raise_for_status()
        return time.perf_counter() - started


def measure(name: str, url: str, folder: Path, n: int, count: int, seconds: float) -> None:
    """Prints the tables and bars of one database."""
    secret = "a-secret-of-the-benchmark-0123456789"  # noqa: S105
    many = {"REQUESTS_PER_SECOND": "1000000", "REQUEST_BURST": "1000000", "LOG_LEVEL": "WARNING"}
    service = services.prepared(folder, DATABASE_URL=url, SECRET_KEY=secret, **many)
    database, jobs = Database(url), []
    for number in range(1, count + 1):
        job_id, spent, size = written(database, n)
        jobs.append(job_id)
        print(f"{name}: job {number} of {n:,} samples in {spent:.1f} s, {size:.2f} GB", flush=True)
    rows, worst = [["order", "top: median", "p99", "anywhere: median", "p99"]], 0.0
    for order in ORDERS:
        figures = [one for top in (True, False) for one in in_database(database, jobs[-1], n, order, top=top)]
        worst = max(worst, figures[1], figures[3])
        rows.append([order, *(f"{one:.2f}" for one in figures)])
    plain = bare(database, jobs[-1], n)
    print(f"\nmilliseconds of a page in {name}, {count} jobs of {n:,} samples\n\n{table(rows)}\n")
    http = over_http(service, requests(database, secret.encode(), jobs, n), seconds)
    print(table([["over HTTP", "ms"], *([key, f"{value:.1f}"] for key, value in http.items())]))
    ratio = http["one client, median"] / plain
    print(f"\nbare SQL {plain:.2f} ms; one client over HTTP {ratio:.1f} times that\n")
    gone = deleted(database, service, jobs[0])
    database.engine.dispose()
    bar(f"scores.in_database.{name}", worst, IN_DATABASE, at_least=False)
    bar(f"scores.over_http.{name}", http["50 clients, p99"], OVER_HTTP, at_least=False)
    bar(f"scores.over_http_paced.{name}", http["50 a second, p99"], OVER_HTTP, at_least=False)
    bar(f"scores.deletion.{name}", gone, DELETED if name == "postgresql" else LOCKED, at_least=False)


def main() -> None:
    cli = parser(__doc__)
    cli.add_argument("--samples", type=int, help="of each job on PostgreSQL")
    cli.add_argument("--jobs", type=int, help="side by side on PostgreSQL")
    cli.add_argument("--databases", default="postgresql,sqlite")
    asked = cli.parse_args()
    n, count = asked.samples or (QUICK if asked.quick else LARGE), asked.jobs or (2 if asked.quick else 5)
    seconds = SECONDS / 4 if asked.quick else SECONDS
    for name in asked.databases.split(","):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if name == "postgresql":
                url = stack.enter_context(servers.postgres()).create("scores")
                migrations.upgrade(url)
                measure(name, url, folder, n, count, seconds)
            else:
                url = f"sqlite:///{folder / 'diffin.db'}"
                migrations.upgrade(url)
                most = Settings(data_dir=folder).sqlite_samples
                measure(name, url, folder, QUICK // 4 if asked.quick else most, 1, seconds)


if __name__ == "__main__":
    main()
