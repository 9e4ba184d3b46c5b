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
ARRAYS = ("npz", "safetensors")  # files and formats that hold no tables, text or images
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


def described(command: Any) -> Any:
    """The options that say how data sent as a table, text or images are to be read."""
    columns = click.option(
        "--columns", help="Of a table: {inputs, targets, id}, as JSON or a file of it; see docs/data.md."
    )
    tokenizer = click.option(
        "--tokenizer",
        type=click.Path(exists=True, dir_okay=False),
        help="Of text: the network's tokenizer.json.",
    )
    return columns(tokenizer(command))


def data_sets(
    client: Diffin, train: str, query: str | None, columns: str | None, tokenizer: str | None
) -> tuple[Dataset, Dataset | None]:
    """The training set and the query set, each a file that is sent or named by its uri, or an id.

    `columns` and `tokenizer` tell of the training set; a query set is read like it, so that names and
    categories mean the same, unless one of the two holds arrays.
    """
    told = {"columns": read_json("--columns", columns) if columns else None, "tokenizer": tokenizer}
    sent = [one for one in (train, query) if one is not None and _is_table(one)]
    if any(told.values()) and not sent:
        raise click.BadParameter("--columns and --tokenizer tell of tables and text, and none is sent")
    train_set = _data_set(client, train, **(told if train in sent else {}))
    if query is None:
        return train_set, None
    if query in sent and train_set.format not in ARRAYS:
        return train_set, _data_set(client, query, like=train_set)
    return train_set, _data_set(client, query, **(told if query in sent else {}))


def _is_table(given: str) -> bool:
    return not _is_id(given) and Path(given).suffix.removeprefix(".").lower() not in ARRAYS


def _is_id(given: str) -> bool:
    return given.startswith("ds_") and not Path(given).exists()


def _data_set(client: Diffin, given: str, **told: Any) -> Dataset:
    if _is_id(given):
        return client.dataset(given)
    if "://" in given and not Path(given).exists():
        return client.upload_dataset(uri=given, **told)
    if not Path(given).exists():
        raise click.BadParameter(f"there is no file {given}, and the id of a data set begins with ds_")
    with sending(f"sending {Path(given).name}", err) as progress:
        return client.upload_dataset(given, progress=progress, **told)


def run_of(client: Diffin, given: str) -> Trajectory:
    if given.startswith("tr_") and not Path(given).exists():
        return client.trajectory(given)
    recording = Recording.open(given)
    with sending("sending checkpoints", err, files=True) as progress:
        return recording.upload(client, progress=progress)


def waited(client: Diffin, job: str, timeout: float | None) -> None:
    found = client.job(job)  # what is none is told without a bar
    with waiting(job, err) as progress:
        client.wait(found, timeout=timeout, progress=progress)


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
            column, justify="right" if numbers else "left", no_wrap=column in ("job", "data set", "selection")
        )
    return table
