"""What exporting 1,000,000 rows costs a worker: seconds, bytes, and memory over that of 100,000 rows.

Each figure is of a process of its own that does what the worker's unit does, on SQLite and on PostgreSQL;
memory is its peak (VmHWM): 1.1 times that of the small job asked at most. With --quick 100,000 rows against
20,000.

    python benchmarks/exports.py [--quick] [--databases sqlite,postgresql]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import migrations  # noqa: E402
from app.store import scores  # noqa: E402
from app.store.db import Database, new_id  # noqa: E402
from app.store.tables import Dataset, Job, JobTrajectory, Trajectory  # noqa: E402
from benchmarks.lab.bars import bar, parser, table  # noqa: E402
from tests import servers  # noqa: E402

LARGE, SMALL = 1_000_000, 100_000
QUICK = 100_000, 20_000
ASKED = 1.1
FORMATS = ("parquet", "csv", "jsonl", "npz")
CHECKPOINTS = 5
CLASSES = [f"class {i}" for i in range(10)]
EXPORT = """
import json, sys, time
from pathlib import Path
from app.store.blobs import BlobStore
from app.store.db import Database
from worker.export import WRITERS
from worker.exporting.scores import table_of
url, folder, job_id, kind = sys.argv[1:5]
database, path, started = Database(url), Path(folder) / "out", time.perf_counter()
rows = sum(WRITERS[kind](table_of(database, BlobStore(Path(folder) / "blobs"), job_id, "index"), path))
seconds = time.perf_counter() - started
told = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"rows": rows, "seconds": seconds, "bytes": path.stat().st_size,
                  "peak": int(told["VmHWM"].split()[0]) / 1024}))
path.unlink()
"""


def job_of(database: Database, n: int) -> str:
    """A job that succeeded with scores of n samples, all columns filled."""
    draw = np.random.default_rng(0)
    score = draw.normal(size=n)
    label = (np.arange(n) % len(CLASSES)).astype(float)
    columns = {
        "sample_index": np.arange(n),
        "sample_id": np.array([f"sample-{i:09d}" for i in range(n)]),
        "score": score,
        "rank": scores.ranks(score),
        "standard_error": draw.exponential(size=n),
        "self_influence": draw.exponential(size=n),
        "suspicion": draw.uniform(size=n),
        "label": label,
        "predicted_label": np.where(draw.uniform(size=n) < 0.9, label, 0.0),
        "loss": draw.exponential(size=n),
        "contributions": np.repeat(score[:, None] / CHECKPOINTS, CHECKPOINTS, axis=1),
        "losses": np.ones((n, CHECKPOINTS)),
    }
    job_id, run, data = new_id("job"), new_id("tr"), new_id("ds")
    plain: dict[str, Any] = {"project_id": "p", "name": "", "notes": "", "meta": {}}
    with database.transaction() as session:
        empty: dict[str, Any] = {"preprocessing": {}, "optimizer": {}, "architecture": {}}
        session.add(Trajectory(id=run, task={"type": "classification"}, **empty, **plain))
        named = {"encoding": {"classes": CLASSES}}
        file = {"format": "npz", "filename": "d.npz", "bytes": 1, "sha256": "0", "status": "ready"}
        session.add(Dataset(id=data, info=named, num_samples=n, options={}, **file, **plain))
        session.flush()
        session.add(
            Job(
                id=job_id,
                type="influence",
                status="succeeded",
                train_dataset_id=data,
                seed=0,
                checkpoint_ids=[],
                result={"num_samples": n},
                runs=[JobTrajectory(position=0, trajectory_id=run)],
                **plain,
            )
        )
        scores.write(session, job_id, columns)
    return job_id


def exported(url: str, folder: Path, job_id: str, kind: str) -> dict[str, float]:
    """What writing the file took a fresh process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", EXPORT, url, str(folder), job_id, kind]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    cli = parser(__doc__)
    cli.add_argument("--databases", default="sqlite,postgresql", help="some of them, by commas")
    asked = cli.parse_args()
    large, small = QUICK if asked.quick else (LARGE, SMALL)
    head = ["database", "format", "seconds", "MB", f"peak, {small:,} rows", f"peak, {large:,} rows"]
    rows: list[list[Any]] = [head]
    worst = 0.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls = {"sqlite": f"sqlite:///{folder / 'diffin.db'}"}
        if "postgresql" in asked.databases:
            urls["postgresql"] = stack.enter_context(servers.postgres()).create("exports")
        for name in asked.databases.split(","):
            migrations.upgrade(urls[name])
            database = Database(urls[name])
            jobs = [job_of(database, n) for n in (small, large)]
            database.engine.dispose()
            for kind in FORMATS:
                before, after = (exported(urls[name], folder, job_id, kind) for job_id in jobs)
                assert (before["rows"], after["rows"]) == (small, large)
                worst = max(worst, after["peak"] / before["peak"])
                peaks = [f"{one['peak']:.0f} MiB" for one in (before, after)]
                rows.append([name, kind, f"{after['seconds']:.1f}", f"{after['bytes'] / 1e6:.0f}", *peaks])
                print(*rows[-1], flush=True)
    print(table(rows))
    bar("exports.memory", worst, ASKED, at_least=False)


if __name__ == "__main__":
    main()
