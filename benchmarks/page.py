"""How long the page takes over 1,000,000 samples: milliseconds of a real API process, over loopback.

The first paint is the first request for the gallery that the process answers; the others draw an order, a
filter and a page anew each time. Asked: 300 ms for each. With --quick 100,000 samples.

    python benchmarks/page.py [--quick] [--databases sqlite,postgresql]
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import numpy as np  # noqa: E402

import migrations  # noqa: E402
from app.store import columns, keys, scores  # noqa: E402
from app.store.blobs import BlobStore  # noqa: E402
from app.store.db import Database  # noqa: E402
from app.store.tables import Dataset, Job, Trajectory  # noqa: E402
from benchmarks.exports import job_of  # noqa: E402
from benchmarks.lab.bars import bar, parser, table  # noqa: E402
from tests import servers, services  # noqa: E402
from tests.services import Service  # noqa: E402

LARGE, QUICK = 1_000_000, 100_000
ASKED = 300.0  # ms
VIEWS = 60
ORDERS = ("harmful", "helpful", "suspicion", "self_influence", "index")


def fill(service: Service, n: int) -> str:
    """A job over n images in the service's project, scored; its id."""
    database, blobs = (
        Database(service.environment["DIFFIN_DATABASE_URL"]),
        BlobStore(service.data_dir / "blobs"),
    )
    job_id = job_of(database, n)
    draw = np.random.default_rng(1)
    with database.transaction() as session, blobs.stage() as inputs, blobs.stage() as targets:
        job = session.get_one(Job, job_id)
        dataset = session.get_one(Dataset, job.train_dataset_id)
        job.method = {"name": "diff_in", "resolution": "segments"}
        job.query_dataset_id = job.train_dataset_id
        job.result = {"num_samples": n, "suspicion": True, "self_influence": True, "warnings": []}
        for row in (job, dataset, session.get_one(Trajectory, job.trajectory_ids[0])):
            row.project_id = keys.DEFAULT_PROJECT
        with inputs.open("wb") as file:
            np.save(file, draw.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8))
        with targets.open("wb") as file:
            np.save(file, np.arange(n) % 10)
        dataset.inputs_blob, dataset.targets_blob = blobs.keep(session, inputs), blobs.keep(session, targets)
        shape = {"kind": "image", "shape": [28, 28, 1], "dtype": "uint8"}
        dataset.info = {"input": shape, "encoding": {"classes": [f"class {at}" for at in range(10)]}}
    with database.transaction() as session, blobs.stage() as staged:
        columns.write(staged, scores.arrays(session, job_id, *columns.NAMES))
        columns.keep(session, blobs, job_id, staged)
    database.engine.dispose()
    return job_id


@contextmanager
def signed_in(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers={"Accept": "text/html"}, timeout=120) as http:
        http.post("/sign-in", data={"key": service.key}, headers={"Origin": service.url})
        http.get("/").raise_for_status()
        yield http


def taken(http: httpx.Client, address: str) -> tuple[float, str]:
    """(milliseconds, the page)."""
    started = time.perf_counter()
    answer = http.get(address)
    spent = 1000 * (time.perf_counter() - started)
    answer.raise_for_status()
    return spent, answer.text


def views(job_id: str, n: int) -> list[str]:
    """Addresses of views drawn at random: any order, half of them filtered, any page."""
    draw, found = np.random.default_rng(2), []
    for at in range(VIEWS):
        query = f"order={ORDERS[at % len(ORDERS)]}&page={draw.integers(1, n // 60)}"
        if at % 2:
            label, predicted = draw.integers(0, 10, 2)
            query += f"&label={label}" + (f"&predicted={predicted}" if at % 4 == 1 else "&differing=1")
        if at % 8 == 7:
            query += f"&min={draw.normal():.3f}"
        found.append(f"/jobs/{job_id}?{query}")
    return found


def measure(name: str, service: Service, n: int) -> list[str]:
    """Prints the bars of one database; its row in the table."""
    job_id = fill(service, n)
    with service.running("api", "api"):
        services.wait_for_http(service)
        with signed_in(service) as http:
            first, page = taken(http, f"/jobs/{job_id}")
            pictures = re.findall(r'src="(/datasets/[^"]+)"', page)
            some = [taken(http, address)[0] for address in views(job_id, n)]
            charts, _ = taken(http, f"/jobs/{job_id}/charts")
            made = [taken(http, address.replace("&amp;", "&"))[0] for address in pictures]
            again = [taken(http, address.replace("&amp;", "&"))[0] for address in pictures]
    bar(f"page.first_paint.{name}", first, ASKED, at_least=False)
    bar(f"page.any_page.{name}", max(some), ASKED, at_least=False)
    figures = [first, float(np.median(some)), max(some), charts, float(np.mean(made)), float(np.mean(again))]
    return [name, f"{n:,}", *(f"{one:.1f}" for one in figures)]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--databases", default="sqlite,postgresql")
    asked = arguments.parse_args()
    n = QUICK if asked.quick else LARGE
    head = ["database", "samples", "first paint", "median page", "slowest page", "charts", "picture", "again"]
    rows = [head]
    for name in asked.databases.split(","):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = f"sqlite:///{folder / 'diffin.db'}"
            if name == "postgresql":
                url = stack.enter_context(servers.postgres()).create("page")
            migrations.upgrade(url)
            rows.append(measure(name, services.prepared(folder, DATABASE_URL=url), n))
    print(f"\nmilliseconds\n\n{table(rows)}")


if __name__ == "__main__":
    main()
