"""Estimates against the truth: how far `POST /v1/jobs/estimate` is off the seconds that jobs then take.

The embedded service with one worker of one thread; images of digits, an MLP and a CNN, five checkpoints. One
job is run first, the cheapest there is to learn from: `diff_in` on a tenth of the samples. Then each job is
estimated, run, and held against what it took, started to finished; so each estimate follows from the jobs
before it. First come all methods on a tenth, then on all samples, then on a third. Off by: the greater of the
two over the smaller. Asked is a factor of 2 wherever a job by the same method was before. With --quick the
MLP, fewer samples.

    python benchmarks/estimates.py [--quick]
"""

from __future__ import annotations

import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from benchmarks.lab.bars import bar, parser, table  # noqa: E402
from tests import services, walk  # noqa: E402
from worker.influence.networks import build  # noqa: E402

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"in_features": 64, "hidden": [128, 64], "num_classes": 10},
    "cnn": {"in_channels": 1, "num_classes": 10, "channels": [16, 32], "image_size": [8, 8]},
}
STEPS = (50, 100, 150, 200, 250)
LARGE, QUICK, QUERIES = 20_000, 4_000, 300
METHODS: tuple[dict[str, Any], ...] = (
    {"name": "diff_in"},
    {"name": "diff_in", "resolution": "segments", "lanczos_steps": 5},
    {"name": "tracin"},
    {"name": "loss"},
    {"name": "el2n"},
    {"name": "grad_norm"},
    {"name": "influence_function"},
    {"name": "diff_in_eq9"},
)
ASKED = 2.0


class Inputs(NamedTuple):
    """Ids of a run, of training sets by their size, and of the queries."""

    run: str
    train: dict[int, str]
    queries: str


class Compared(NamedTuple):
    """Seconds of a job, as estimated from which jobs, and as it took."""

    what: str
    basis: str
    told: float
    took: float

    @property
    def off(self) -> float:
        return max(self.told / self.took, self.took / self.told)


def images(n: int) -> tuple[np.ndarray, np.ndarray]:
    """`n` digits [n, 64] in 0 to 1, drawn again and again, each with noise of its own; their labels."""
    x, y = load_digits(return_X_y=True)
    draw = np.random.default_rng(0)
    rows = draw.integers(len(x), size=n)
    noisy = x[rows] / 16 + draw.normal(0, 0.1, (n, 64))
    return noisy.astype(np.float32), y[rows].astype(np.int64)


def sent(http: httpx.Client, name: str, n: int) -> Inputs:
    """A run of random weights, whose scores cost what a trained one's do, and data."""
    torch.manual_seed(0)
    run = walk.trajectory(http, name, NETWORKS[name])
    for step in STEPS:
        state = save(build(name, NETWORKS[name]).state_dict())
        assert walk.checkpoint(http, run, state, step, learning_rate=0.05)["status"] == "ready"
    x, y = images(n)
    x = x if name == "mlp" else x.reshape(-1, 1, 8, 8)

    def data(rows: slice) -> str:
        return str(walk.dataset(http, walk.npz(inputs=x[rows], targets=y[rows]))["id"])

    return Inputs(run, {size: data(slice(size)) for size in (n // 10, n, n // 3)}, data(slice(QUERIES)))


def took(job: dict[str, Any]) -> float:
    """Seconds from its start to its end."""
    begun, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return (ended - begun).total_seconds()


def body(inputs: Inputs, train: str, method: dict[str, Any]) -> dict[str, Any]:
    named = {"trajectory_id": inputs.run, "train_dataset_id": train, "query_dataset_id": inputs.queries}
    return {"type": "influence", "method": method, **named}


def ran(http: httpx.Client, asked: dict[str, Any]) -> dict[str, Any]:
    job = walk.finished(http, walk.ok(http.post("/v1/jobs", json=asked), 202)["id"], 1200)
    assert job["status"] == "succeeded", job
    return job


def compare(http: httpx.Client, name: str, n: int) -> list[Compared]:
    inputs, found = sent(http, name, n), []
    first, *_ = inputs.train.values()
    ran(http, body(inputs, first, METHODS[0]))
    for size, train in inputs.train.items():
        for method in METHODS:
            asked = body(inputs, train, method)
            told = walk.ok(http.post("/v1/jobs/estimate", json=asked), 200)
            job = ran(http, asked)
            assert told["forward_passes"] == job["progress"]["total"], (told, job["progress"])
            options = ", ".join(f"{key} {value}" for key, value in method.items() if key != "name")
            what = f"{name}, {size:,}: {method['name']}{f' ({options})' if options else ''}"
            found.append(Compared(what, told["basis"], told["seconds"], took(job)))
            print(*found[-1], f"off by {found[-1].off:.2f}", flush=True)
    return found


def main() -> None:
    asked = parser(__doc__).parse_args()
    n, names = (QUICK, ["mlp"]) if asked.quick else (LARGE, list(NETWORKS))
    with (
        tempfile.TemporaryDirectory() as folder,
        services.embedded(Path(folder), THREADS="1") as service,
        service.client() as http,
    ):
        found = [one for name in names for one in compare(http, name, n)]
    rows = [["job", "from jobs by", "estimated s", "taken s", "off by"]]
    rows += [
        [one.what, one.basis.replace("_", " "), f"{one.told:.2f}", f"{one.took:.2f}", f"{one.off:.2f}"]
        for one in found
    ]
    print(f"\n{table(rows)}\n")
    like = [one.off for one in found if one.basis != "other_method"]
    other = [one.off for one in found if one.basis == "other_method"]
    print(
        f"off by {np.median(like):.2f} in the median, and {np.median(other):.2f} from jobs by other methods\n"
    )
    bar("estimates.within_two", float(np.mean(np.array(like) <= ASKED)), 1.0)
    bar("estimates.worst", max(like), ASKED, at_least=False)


if __name__ == "__main__":
    main()
