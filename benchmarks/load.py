"""The service under load, on PostgreSQL and Redis with two API processes (--processes) and one worker.

First 200 requests a second for 5 minutes, nine reads to one new job, while the worker is busy with the jobs:
no error is asked, and p99 is printed; each request counts from the moment it was due. Then 10,000 queued
jobs, tiny ones, are drained: a job of the last tenth should cost what one of the first costs, by the clock
and in the processors' time of worker and database. With --quick 30 seconds and 300 jobs.

    python benchmarks/load.py [--quick] [--rate 200] [--seconds 300] [--queued 10000] [--processes 2]
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from sqlalchemy import func, select  # noqa: E402

from app.store.db import Database  # noqa: E402
from app.store.tables import Job  # noqa: E402
from benchmarks.lab.bars import bar, parser, table  # noqa: E402
from benchmarks.lab.load import Asked, Connection, Request, at_a_rate, errors, milliseconds  # noqa: E402
from tests import front_ends, servers, services, walk  # noqa: E402
from tests.chaos.processes import children  # noqa: E402
from tests.services import Service  # noqa: E402

RATE, SECONDS, QUEUED, PROCESSES = 200.0, 300.0, 10_000, 2
QUICK = 30.0, 300
CLIENTS, SENDERS, READS = 64, 8, 9
FLAT = 1.2
HEAD = ["tenth", "clock", "worker", "database"]
TICKS = os.sysconf("SC_CLK_TCK")
IDS = re.compile(r"(?<=/)[a-z]+_[0-9a-f-]{36}")
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Moment:
    """How many jobs had ended, when, and what worker and database had computed by then, in seconds."""

    ended: int
    clock: float
    worker: float
    database: float


def inputs(service: Service) -> bytes:
    """The body of a tiny job: the losses of 20 samples at one checkpoint."""
    with service.client() as http:
        x, y = walk.digits(20)
        data = walk.dataset(http, walk.npz(inputs=x, targets=y))["id"]
        body: dict[str, Any] = {"type": "influence", "trajectory_id": walk.run(http, (10,))}
        body |= {"train_dataset_id": data, "query_dataset_id": data, "method": {"name": "loss"}}
    return json.dumps(body).encode()


def mixed(service: Service, body: bytes, scored: str) -> Callable[[], Request]:
    """Nine reads of what people look at to one new job."""
    job = json.loads(body)
    reads = [
        f"/v1/jobs/{scored}",
        f"/v1/jobs/{scored}/scores?limit=20",
        f"/v1/jobs/{scored}/scores?order=helpful&limit=20",
        f"/v1/jobs/{scored}/scores/7",
        f"/v1/jobs/{scored}/summary",
        "/v1/jobs?limit=20",
        "/v1/jobs?status=queued&limit=20",
        f"/v1/trajectories/{job['trajectory_id']}",
        f"/v1/datasets/{job['train_dataset_id']}",
    ]
    draw = np.random.default_rng(0)

    def following() -> Request:
        if draw.integers(READS + 1) == 0:
            return Request("POST job", "POST", "/v1/jobs", body)
        path = reads[draw.integers(len(reads))]
        return Request("GET " + IDS.sub("…", path).partition("?")[0], "GET", path)

    return following


async def queue(service: Service, body: bytes, count: int) -> None:
    """So many jobs more, posted by a few clients."""
    left = iter(range(count))

    async def one() -> None:
        connection = Connection(service.url, service.key)
        for _ in left:
            asked, answer = await connection.ask(Request("POST job", "POST", "/v1/jobs", body))
            assert asked.status == 202, answer
        connection.close()

    await asyncio.gather(*(one() for _ in range(SENDERS)))


def computed(pid: int) -> float:
    """Seconds of processors' time of a process and of those below it, the ones that ended too."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, told[11:15])) / TICKS + sum(computed(child) for child in children(pid))


def server_of(database: Database) -> int:
    """The process below which PostgreSQL's are, on this machine."""
    with database.snapshot() as session:
        place = session.connection().exec_driver_sql("SHOW data_directory").scalar_one()
    return int(Path(place, "postmaster.pid").read_text().splitlines()[0])


def drained(service: Service, database: Database, postgres: int, ended: int, count: int) -> list[Moment]:
    """The moments at which each tenth of the jobs had ended."""
    worker, warm = service.processes["worker 1"].pid, max(5, count // 50)  # it loads torch first
    found: list[Moment] = []
    while len(found) <= 10:
        with database.snapshot() as session:
            over = select(func.count()).where(Job.status == "succeeded")
            now = session.execute(over).scalar_one() - ended
        if now >= warm + (count - warm) * len(found) // 10:
            found.append(Moment(now, time.perf_counter(), computed(worker), computed(postgres)))
        time.sleep(0.05)
    return found


def told(found: list[Asked], seconds: float) -> None:
    """Prints what each kind of request took."""
    rows = [["request", "count", "median ms", "p99 ms", "errors"]]
    for kind in sorted({one.kind for one in found}):
        of = [one for one in found if one.kind == kind]
        figures = [f"{milliseconds(of, share):.0f}" for share in (0.5, 0.99)]
        rows.append([kind, f"{len(of):,}", *figures, str(len(errors(of)))])
    print(f"\n{table(rows)}\n\n{len(found) / seconds:.0f} requests a second", flush=True)
    if wrong := errors(found):
        print(f"errors: {Counter((one.kind, one.status) for one in wrong)}")


def costs(moments: list[Moment]) -> list[list[float]]:
    """Of each tenth: milliseconds a job by the clock, of the worker, of the database."""
    return [
        [
            1000 * (getattr(after, name) - getattr(before, name)) / (after.ended - before.ended)
            for name in ("clock", "worker", "database")
        ]
        for before, after in pairwise(moments)
    ]


def main() -> None:
    cli = parser(__doc__)
    cli.add_argument("--rate", type=float, default=RATE)
    cli.add_argument("--seconds", type=float)
    cli.add_argument("--queued", type=int)
    cli.add_argument("--processes", type=int, default=PROCESSES, help="of the API (%(default)s)")
    asked = cli.parse_args()
    seconds = asked.seconds or (QUICK[0] if asked.quick else SECONDS)
    queued = asked.queued or (QUICK[1] if asked.quick else QUEUED)
    many = {"REQUESTS_PER_SECOND": "1000000", "REQUEST_BURST": "1000000", "LOG_LEVEL": "WARNING"}
    many["API_PROCESSES"] = str(asked.processes)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, redis = stack.enter_context(servers.postgres()), stack.enter_context(servers.redis_server())
        url = server.create("load")
        urls = {"DATABASE_URL": url, "BROKER_URL": f"{redis}/0", "SECRET_KEY": "secret-of-the-benchmark"}
        service = services.prepared(folder, THREADS="1", **many | urls)
        service.migrate()
        database = Database(url)
        postgres = server_of(database)
        with service.running("api", "api"):
            with service.running("worker 1", "worker"):
                service.wait_until_ready()
                front_ends.wait_for_all(service, asked.processes)
                body = inputs(service)
                with service.client() as http:
                    scored = walk.ok(http.post("/v1/jobs", content=body, headers=JSON), 202)["id"]
                    assert walk.finished(http, scored)["status"] == "succeeded"
                following = mixed(service, body, scored)
                load = at_a_rate(service.url, service.key, CLIENTS, asked.rate, seconds, following)
                began = computed(service.process.pid)
                found = asyncio.run(load)
                each = 1000 * (computed(service.process.pid) - began) / len(found)
            told(found, seconds)
            print(f"{each:.1f} ms of a processor each, of the API", flush=True)
            with database.transaction() as session:  # what the worker has not come to is no part of the next
                before = session.execute(select(func.count()).where(Job.status == "succeeded")).scalar_one()
                waiting = session.execute(select(func.count()).where(Job.status != "succeeded")).scalar_one()
            asyncio.run(queue(service, body, max(0, queued - waiting)))
            with service.running("worker 1", "worker"):
                moments = drained(service, database, postgres, before, max(queued, waiting))
        database.engine.dispose()
    rows = [[str(at), *(f"{one:.1f}" for one in cost)] for at, cost in enumerate(costs(moments), 1)]
    print(f"\nms a job of {max(queued, waiting):,}\n\n{table([HEAD, *rows])}\n")
    print(f"p99 of all requests: {milliseconds(found, 0.99):.0f} ms")
    first, *_, last = costs(moments)
    bar("load.errors", len(errors(found)), 0, at_least=False)
    for at, name in enumerate(("clock", "worker", "database")):
        bar(f"load.last_over_first_tenth.{name}", last[at] / first[at], FLAT, at_least=False)


if __name__ == "__main__":
    main()
