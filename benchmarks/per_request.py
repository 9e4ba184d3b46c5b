"""What the API computes for one request: milliseconds of a processor, of the API and of PostgreSQL, by kind.

One client asks for so many of each kind, one after the other, of one API process; nothing else is asked
meanwhile. Time on a processor depends less on what else runs than time by the clock, which is printed too.
Asked is half of what each kind took before requests were made cheaper. With --quick 300 of each kind.

    python benchmarks/per_request.py [--quick] [--requests 2000]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from app.store.db import Database  # noqa: E402
from benchmarks.lab.bars import bar, parser, table  # noqa: E402
from benchmarks.lab.load import Connection, Request  # noqa: E402
from benchmarks.load import computed, inputs, server_of  # noqa: E402
from benchmarks.scores import written  # noqa: E402
from tests import servers, services  # noqa: E402
from tests.services import Service  # noqa: E402

COUNT, QUICK, WARM = 2000, 300, 200
SAMPLES = 60_000  # of the job whose scores are read: they have a table of their own
ASKED = {"a page of 100 scores": 5.1, "a job": 3.4, "a list of 20 jobs": 4.7, "a new job": 12.9}  # ms
HEAD = ["request", "API", "database", "clock: median", "p99"]


def kinds(scored: str, body: bytes) -> list[Request]:
    """The requests by name, those that read before the one that writes."""
    page, job, jobs, new = ASKED
    return [
        Request(page, "GET", f"/v1/jobs/{scored}/scores?limit=100"),
        Request(job, "GET", f"/v1/jobs/{scored}"),
        Request(jobs, "GET", "/v1/jobs?limit=20"),
        Request(new, "POST", "/v1/jobs", body),
    ]


async def repeated(service: Service, request: Request, count: int) -> list[float]:
    """Milliseconds of each."""
    connection, found = Connection(service.url, service.key), []
    for _ in range(count):
        asked, answer = await connection.ask(request)
        assert 200 <= asked.status < 300, answer
        found.append(1000 * asked.seconds)
    connection.close()
    return found


def cost(service: Service, postgres: int, request: Request, count: int) -> list[float]:
    """Milliseconds of each such request, as in `HEAD`."""
    asyncio.run(repeated(service, request, WARM))
    time.sleep(0.5)  # what goes on behind an answer is over
    processes = service.process.pid, postgres
    before = [computed(one) for one in processes]
    waited = asyncio.run(repeated(service, request, count))
    spent = [1000 * (computed(one) - was) / count for one, was in zip(processes, before, strict=True)]
    return [*spent, *np.quantile(waited, (0.5, 0.99)).tolist()]


def main() -> None:
    cli = parser(__doc__)
    cli.add_argument("--requests", type=int, help="of each kind")
    asked = cli.parse_args()
    count = asked.requests or (QUICK if asked.quick else COUNT)
    many = {"REQUESTS_PER_SECOND": "1000000", "REQUEST_BURST": "1000000", "LOG_LEVEL": "WARNING"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, redis = stack.enter_context(servers.postgres()), stack.enter_context(servers.redis_server())
        url = server.create("requests")
        urls = {"DATABASE_URL": url, "BROKER_URL": f"{redis}/0", "SECRET_KEY": "secret-of-the-benchmark"}
        service = services.prepared(folder, THREADS="1", **many | urls)
        service.migrate()
        database = Database(url)
        postgres = server_of(database)
        scored, _, _ = written(database, SAMPLES)
        database.engine.dispose()
        with service.running("api", "api"):
            with service.running("worker 1", "worker"):
                service.wait_until_ready()
                body = inputs(service)
            del service.processes["worker 1"]
            found = {one.kind: cost(service, postgres, one, count) for one in kinds(scored, body)}
    rows = [[name, *(f"{figure:.2f}" for figure in figures)] for name, figures in found.items()]
    print(f"\nms of each of {count:,} requests\n\n{table([HEAD, *rows])}\n")
    for name, (api, *_) in found.items():
        bar(f"per_request.{name.replace(' ', '_')}", api, ASKED[name], at_least=False)


if __name__ == "__main__":
    main()
