"""What the commands have in common: the client, the terminal, arguments that name files or resources."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from diffin.calls.jobs import Order
from diffin.client import Diffin
from diffin.models import Dataset, Trajectory
from diffin.progress import sending, waiting
from diffin.recording import Recording

# A pipe has no width to wrap at.
out = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=250)
err = Console(stderr=True)
ROWS = click.IntRange(min=1)


def service() -> Diffin:
    url, key = click.get_current_context().find_root().obj
    return click.get_current_context().with_resource(Diffin(url, key, retries=3))


@contextmanager
def extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}: this command needs `pip install 'diffin[{name}]'`") from error


def option(given: str) -> tuple[str, Any]:
    key, equals, value = given.partition("=")
    if not equals:
        raise click.BadParameter(f"-o {given}: write it as key=value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def read_json(option: str, given: str) -> Any:
    """JSON as it is given, or as it stands in the file that is named."""
    text = given if given.lstrip().startswith("{") else Path(given).read_text()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"{option}: {error}") from error


def check_method(client: Diffin, asked: dict[str, Any]) -> None:
    known = {method["name"]: method["schema"]["properties"] for method in client.methods()}
    if asked["name"] not in known:
        raise click.BadParameter(f"no method is called {asked['name']!r}; there are {', '.join(known)}")
    if unknown := asked.keys() - known[asked["name"]].keys():
        options = ", ".join(known[asked["name"]].keys() - {"name"}) or "none"
        raise click.BadParameter(f"{asked['name']} has no option {', '.join(unknown)}; it has {options}")


def data_set(client: Diffin, given: str) -> Dataset:
    if not Path(given).exists():
        if given.startswith("ds_"):
            return client.dataset(given)
        raise click.BadParameter(f"there is no file {given}, and the id of a data set begins with ds_")
    with sending(f"sending {Path(given).name}", err) as progress:
        return client.upload_dataset(given, progress=progress)


def run_of(client: Diffin, given: str) -> Trajectory:
    if given.startswith("tr_") and not Path(given).exists():
        return client.trajectory(given)
    recording = Recording.open(given)
    with sending("sending checkpoints", err, files=True) as progress:
        return recording.upload(client, progress=progress)


def waited(client: Diffin, job: str, timeout: float | None) -> None:
    with waiting(job, err) as progress:
        client.wait(job, timeout=timeout, progress=progress)


def print_top(client: Diffin, job: str, limit: int, order: Order) -> None:
    table = columns("rank", "sample", "score", "label", "predicted", "loss", numbers=True)
    for row in client.scores(job, order=order, limit=limit):
        name = str(row.sample_index if row.sample_id is None else row.sample_id)
        label, predicted = (plain(value) for value in (row.label, row.predicted_label))
        table.add_row(str(row.rank), name, f"{row.score:+.3e}", label, predicted, plain(row.loss))
    out.print(table)


def plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def columns(*columns: str, numbers: bool = False) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if numbers else "left", no_wrap=column in ("job", "data set")
        )
    return table
