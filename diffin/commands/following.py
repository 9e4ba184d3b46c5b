"""Jobs and data sets looked at, waited for, cancelled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import get_args

import click

from diffin.calls.exports import FORMATS, Format, format_of
from diffin.calls.jobs import Order, Side
from diffin.commands.shared import (
    ROWS,
    columns,
    out,
    plain,
    print_top,
    service,
    waited,
)


@click.command()
@click.argument("job")
def status(job: str) -> None:
    """Print one job."""
    found = service().job(job)
    progress = found.progress
    done = f"  {progress.completed:g}/{progress.total:g} {progress.unit}" if progress.total else ""
    out.print(f"{found.id}  {found.status}{done}  {found.name or ''}".rstrip(), markup=False)
    if found.error:
        out.print(f"  {found.error.detail}", markup=False)
    for warning in (found.result or {}).get("warnings", []):
        out.print(f"  {warning['code']}: {warning['detail']}", markup=False)


@click.command()
@click.argument("job")
@click.option("--timeout", type=float, help="Seconds to wait at most; the job goes on.")
def wait(job: str, timeout: float | None) -> None:
    """Wait for a job; exit with 1 unless it succeeded."""
    waited(service(), job, timeout)


@click.command()
@click.argument("job")
@click.option("-n", "--limit", "limit", type=ROWS, default=20, show_default=True, help="Rows.")
@click.option(
    "--order",
    type=click.Choice(get_args(Order)),
    default="harmful",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def top(job: str, limit: int, order: Order, as_json: bool) -> None:
    """Print the most harmful (or helpful) training samples of a job."""
    client = service()
    if as_json:
        for row in client.scores(job, order=order, limit=limit):
            click.echo(json.dumps({k: v for k, v in vars(row).items() if k != "contributions"}))
        return
    print_top(client, job, limit, order)


@click.command()
@click.argument("job")
@click.argument("query", type=click.IntRange(min=0))
@click.option("-n", "--limit", "limit", type=ROWS, default=10, show_default=True, help="Rows of each.")
def influences(job: str, query: int, limit: int) -> None:
    """Print the training samples behind one QUERY sample (jobs with per_query=true)."""
    client = service()
    sides: tuple[Side, ...] = ("opponents", "proponents")
    for order in sides:
        table = columns(order, "sample", "score", "label", numbers=True)
        for row in client.influences(job, query, order=order, limit=limit):
            name = str(row.sample_index if row.sample_id is None else row.sample_id)
            table.add_row(str(row.rank), name, f"{row.score:+.3e}", plain(row.label))
        out.print(table)


@click.command()
@click.argument("job")
@click.argument("other")
@click.option("-k", "tops", type=ROWS, multiple=True, help="Size of the tops compared; repeatable.")
def compare(job: str, other: str, tops: Sequence[int]) -> None:
    """Print how far two jobs over the same samples agree."""
    found = service().compare(job, other, tops=tops)
    for name, value in (("spearman", found.spearman), ("kendall", found.kendall)):
        click.echo(f"{name}  {'none' if value is None else format(value, '.4f')}")
    table = columns("top", "harmful", "helpful", numbers=True)
    for one in found.top:
        table.add_row(str(one["k"]), f"{one['harmful']:.0%}", f"{one['helpful']:.0%}")
    out.print(table)


@click.command()
@click.argument("of", metavar="JOB|SELECTION")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="File to write; else by the id, here.")
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), help="Else by the file's ending, parquet without one."
)
@click.option("--order", type=click.Choice(get_args(Order)), help="Of a job's rows; by index unless given.")
@click.option("--timeout", type=float, help="Seconds to wait at most.")
def export(
    of: str, output: str | None, kind: Format | None, order: Order | None, timeout: float | None
) -> None:
    """Save all rows of a job's scores, or of a selection, as parquet, csv, jsonl or npz; print the file's
    name.
    """
    kind = kind or (format_of(output) if output else "parquet")
    output = output or f"{of}{'' if of.startswith('sel_') else '-scores'}.{kind}"
    client = service()
    made = client.create_export(of, kind, order=order)
    click.echo(client.download_export(made, output, timeout=timeout))


@click.command()
@click.argument("job")
def cancel(job: str) -> None:
    """Cancel a job."""
    click.echo(service().cancel(job).status)


@click.command()
@click.option("-n", "--limit", "limit", type=ROWS, default=20, show_default=True)
def jobs(limit: int) -> None:
    """List the jobs, newest first."""
    table = columns("job", "type", "status", "method", "name", "created")
    for job in service().jobs(limit=limit):
        created = f"{job.created_at:%Y-%m-%d %H:%M}" if job.created_at else ""
        table.add_row(job.id, job.type, job.status, (job.method or {}).get("name", ""), job.name, created)
    out.print(table)


@click.command()
@click.option("-n", "--limit", "limit", type=ROWS, default=20, show_default=True)
def datasets(limit: int) -> None:
    """List the data sets."""
    table = columns("data set", "status", "samples", "classes", "name")
    for one in service().datasets(limit=limit):
        table.add_row(one.id, one.status, str(one.num_samples or ""), str(one.num_classes or ""), one.name)
    out.print(table)
