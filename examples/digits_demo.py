"""Finds the most harmful digits of a training set with flipped labels, with a service of its own.

    python -m examples.digits_demo [--seed 0] [--out demo] [--samples 1200]

Trains a small CNN on scikit-learn's digits, 10% of their labels flipped, recording checkpoints; starts
`diffin serve`, sends data and checkpoints, asks for the Diff-In scores and for the mean loss as a baseline,
and compares both with what was flipped.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from diffin import Diffin, DiffinError, Recorder
from diffin.models import Dataset, Job, Score, Trajectory
from diffin.progress import sending, waiting
from examples.contact_sheet import contact_sheet
from examples.digits import ARCHITECTURE, Cnn, Digits, accuracy, digits, train
from examples.local_service import ServiceError, fresh, serving
from examples.measures import auc, precision_at

SHOWN = 20
STEPS, BATCH, RATE, EVERY = 400, 50, 0.15, 50
console = Console(highlight=False)


@dataclass(frozen=True)
class Found:
    """How well one method's ranking finds the flipped labels."""

    auc: float
    precision_at_k: dict[str, float]


def record(data: Digits, folder: Path, seed: int) -> tuple[Cnn, Recorder]:
    """Trains with the recorder in the loop."""
    recorder = Recorder(
        name=f"digits, seed {seed}",
        architecture=ARCHITECTURE,
        optimizer={"name": "sgd", "momentum": 0.0, "weight_decay": 0.0},
        batch_size=BATCH,
        train_size=len(data.labels),
        directory=folder,
        every=EVERY,
    )
    return train(data, recorder, seed=seed, steps=STEPS, batch=BATCH, rate=RATE), recorder


def send(client: Diffin, data: Digits, recorder: Recorder) -> tuple[Trajectory, Dataset, Dataset]:
    """Uploads training set, query set and checkpoints, and waits until all are validated."""
    with sending("training set", console) as progress:
        training = client.upload_dataset(
            inputs=data.images, targets=data.labels, name="digits, 10% flipped", progress=progress
        )
    with sending("query set", console) as progress:
        query = client.upload_dataset(
            inputs=data.query_images, targets=data.query_labels, name="digits, clean", progress=progress
        )
    with sending("checkpoints", console, files=True) as progress:
        trajectory = recorder.upload(client, progress=progress)
    return client.ready(trajectory), client.ready(training), client.ready(query)


def finish(client: Diffin, job: Job, what: str) -> Job:
    with waiting(what, console) as progress:
        return client.wait(job, progress=progress)


def judge(client: Diffin, job: Job, flipped: np.ndarray) -> Found:
    """Compares a job's scores with what was flipped."""
    scores = np.array([row.score for row in client.scores(job, order="index")])
    ks = sorted({min(40, len(scores)), int(flipped.sum())})
    return Found(auc(scores, flipped), {str(k): precision_at(k, scores, flipped) for k in ks})


def show(rows: list[Score], flipped: np.ndarray) -> None:
    table = Table(title=f"The {len(rows)} most harmful training samples", box=None, title_justify="left")
    for column in ("rank", "index", "given", "predicted", "score", "loss", "flipped"):
        table.add_column(column, justify="right")
    for row in rows:
        given, predicted = f"{row.label:g}", f"{row.predicted_label:g}"
        wrong = "[red]yes[/red]" if flipped[row.sample_index] else "no"
        score, loss = f"{row.score:+.3e}", f"{row.loss:.3f}"
        table.add_row(str(row.rank), str(row.sample_index), given, predicted, score, loss, wrong)
    console.print(table)


def compare(found: dict[str, Found]) -> None:
    table = Table(title="How well they find the flipped labels", box=None, title_justify="left")
    table.add_column("method")
    first = next(iter(found.values()))
    for column in ("AUC", *(f"precision@{k}" for k in first.precision_at_k)):
        table.add_column(column, justify="right")
    for name, one in found.items():
        table.add_row(name, f"{one.auc:.3f}", *(f"{share:.2f}" for share in one.precision_at_k.values()))
    console.print(table)


def run(seed: int, out: Path, samples: int) -> None:
    """The whole demonstration; writes `harmful.png`, `result.json` and `service.log` into `out`."""
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    data = digits(seed, samples)
    model, recorder = record(data, fresh(out / "run", "trajectory.json"), seed)
    right = accuracy(model, data.query_images, data.query_labels)
    console.print(
        f"Trained a CNN on {samples} digits, {data.flipped.sum()} of them with a flipped label; "
        f"it gets {right:.1%} of {len(data.query_labels)} others right.",
        soft_wrap=True,
    )
    store = fresh(out / "data", "api-key")
    with serving(store, out / "service.log") as client:
        console.print(f"Service at {client.url}")
        trajectory, training, query = send(client, data, recorder)
        job = client.submit(trajectory, training, query, method="diff_in", name="what hurts?")
        job = finish(client, job, "diff_in")
        base = client.submit(trajectory, training, method={"name": "loss", "which": "mean"}, name="baseline")
        base = finish(client, base, "loss (baseline)")
        rows = list(client.scores(job, order="harmful", limit=SHOWN))
        ours, theirs = judge(client, job, data.flipped), judge(client, base, data.flipped)
        images = [client.sample_content(training, row.sample_index) for row in rows]
    show(rows, data.flipped)
    compare({"diff_in": ours, "mean loss (baseline)": theirs})
    wrong = [bool(data.flipped[row.sample_index]) for row in rows]
    title, note = (
        f"The {len(rows)} most harmful of {samples} training digits",
        "label given, label that the model predicts; score; red: the label was flipped",
    )
    contact_sheet(out / "harmful.png", title, note, rows, images, wrong)
    seconds = time.perf_counter() - start
    shown = [_plain(row, flipped) for row, flipped in zip(rows, wrong, strict=True)]
    result = {"seed": seed, "rows": shown, "auc": ours.auc, "precision_at_k": ours.precision_at_k}
    result |= {"baseline": {"method": "loss"} | vars(theirs), "seconds": round(seconds, 2), "job_id": job.id}
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    console.print(
        f"\n{seconds:.0f} s. Wrote {out / 'harmful.png'} and {out / 'result.json'}. To ask again:\n",
        soft_wrap=True,
    )
    console.print(_again(store, job), soft_wrap=True, markup=False)


def _plain(row: Score, flipped: bool) -> dict[str, object]:
    fields = ("rank", "sample_index", "label", "predicted_label", "score", "loss")
    return {field: getattr(row, field) for field in fields} | {"flipped": flipped}


def _again(store: Path, job: Job) -> str:
    return (
        f"  DIFFIN_DATA_DIR={store} .venv/bin/diffin serve    # prints where the page is: look at them all\n"
        f'  curl -H "Authorization: Bearer $(cat {store}/api-key)" '
        f"'http://127.0.0.1:8000/v1/jobs/{job.id}/scores?order=harmful&limit={SHOWN}'"
    )


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), show_default=True
)
@click.option(
    "--samples", default=1200, show_default=True, help="Digits to train on; 400 others are the query set."
)
def main(seed: int, out: Path, samples: int) -> None:
    """Find the most harmful digits of a training set with flipped labels."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the service is stopped too
    try:
        run(seed, out, samples)
    except (DiffinError, ServiceError, OSError, ValueError) as error:
        console.print(f"[red]The demonstration failed:[/red] {error}", soft_wrap=True)
        log = out / "service.log"
        if log.exists() and isinstance(error, DiffinError | ServiceError):
            console.print(f"\nThe end of {log}:", *log.read_text().splitlines()[-30:], sep="\n", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
