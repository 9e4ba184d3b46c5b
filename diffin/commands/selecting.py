"""What to do about scores, from the shell."""

from __future__ import annotations

import json
from pathlib import Path

import click

from diffin.calls.selections import By
from diffin.client import Diffin
from diffin.commands.shared import ROWS, columns, err, out, plain, service
from diffin.progress import waiting
from diffin.selecting import Selection

WAIT = click.option("--wait/--no-wait", default=False, help="Wait, then print what was chosen.")
SIZE = click.option("--size", type=ROWS, help="So many samples.")
FRACTION = click.option("--fraction", type=float, help="This share of all samples.")
NAME = click.option("--name", help="Of the selection.")
VERIFY = click.option("--verify", is_flag=True, help="Train again with and without, and tell what changed.")


@click.command()
@click.argument("job")
@click.option("--auto", is_flag=True, help="As many as there are wrong labels, by an estimate.")
@click.option("--rounds", type=click.IntRange(1, 2), help="Of --auto: with 2, train again to decide.")
@SIZE
@FRACTION
@click.option("--threshold", type=float, help="All samples with at least so much.")
@click.option("--by", type=click.Choice(["suspicion", "score"]), help="What the worst are told by.")
@click.option("--relabel/--no-relabel", default=True, help="Propose other labels, or only removal.")
@VERIFY
@NAME
@WAIT
def clean(
    job: str,
    auto: bool,
    rounds: int | None,
    size: int | None,
    fraction: float | None,
    threshold: float | None,
    by: By | None,
    relabel: bool,
    verify: bool,
    name: str | None,
    wait: bool,
) -> None:
    """Propose samples of a JOB to remove or relabel; print the selection's id."""
    client = service()
    asked = client.clean(
        job,
        auto=auto,
        rounds=rounds,
        size=size,
        fraction=fraction,
        threshold=threshold,
        by=by,
        relabel=relabel,
        verify=verify,
        name=name,
    )
    _told(client, asked, wait)


@click.command()
@click.argument("job")
@SIZE
@FRACTION
@click.option("--stratify/--no-stratify", default=None, help="Of each class a fair part.")
@click.option("--drop-suspects/--keep-suspects", default=None, help="Labels that look wrong go first.")
@click.option("--diversity", is_flag=True, help="Few samples that are all but the same.")
@VERIFY
@NAME
@WAIT
def coreset(
    job: str,
    size: int | None,
    fraction: float | None,
    stratify: bool | None,
    drop_suspects: bool | None,
    diversity: bool,
    verify: bool,
    name: str | None,
    wait: bool,
) -> None:
    """Propose samples of a JOB to keep; print the selection's id."""
    client = service()
    _told(
        client,
        client.coreset(
            job,
            size=size,
            fraction=fraction,
            stratify=stratify,
            drop_suspects=drop_suspects,
            diversity=diversity,
            verify=verify,
            name=name,
        ),
        wait,
    )


@click.command()
@click.argument("job")
@click.option("--index", "indices", type=click.IntRange(min=0), multiple=True, help="Repeatable.")
@click.option("--id", "ids", multiple=True, help="In place of --index: a sample's id; repeatable.")
@click.option("--checkpoint/--no-checkpoint", default=True, help="Update the last checkpoint, too.")
@VERIFY
@NAME
@WAIT
def deletion(
    job: str,
    indices: tuple[int, ...],
    ids: tuple[str, ...],
    checkpoint: bool,
    verify: bool,
    name: str | None,
    wait: bool,
) -> None:
    """Ask what removing these samples of a JOB would do; print the selection's id."""
    client = service()
    asked = client.deletion(
        job,
        sample_indices=indices or None,
        sample_ids=ids or None,
        checkpoint=None if checkpoint else False,
        verify=verify,
        name=name,
    )
    _told(client, asked, wait)


@click.command()
@click.argument("selection")
@click.option("-n", "--limit", "limit", type=ROWS, default=20, show_default=True, help="Rows.")
def selection(selection: str, limit: int) -> None:
    """Print what was chosen, and the first of its samples."""
    _print(service(), selection, limit)


@click.command()
@click.option("-n", "--limit", "limit", type=ROWS, default=20, show_default=True)
@click.option("--job", help="Only those of this job.")
def selections(limit: int, job: str | None) -> None:
    """List the selections, newest first."""
    table = columns("selection", "type", "status", "size", "name", "created")
    for one in service().selections(job=job, limit=limit):
        created = f"{one.created_at:%Y-%m-%d %H:%M}" if one.created_at else ""
        size = "" if one.size is None else str(one.size)
        table.add_row(one.id, one.type, one.status, size, one.name, created)
    out.print(table)


@click.command()
@click.argument("selection")
@click.option("-o", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write it there.")
def manifest(selection: str, file: Path | None) -> None:
    """Print a selection's index lists as JSON: keep, remove, relabel."""
    text = json.dumps(service().manifest(selection))
    if file is None:
        click.echo(text)
    else:
        file.write_text(text)


def _told(client: Diffin, asked: Selection, wait: bool) -> None:
    click.echo(asked.id)
    if wait:
        with waiting(asked.id, err) as progress:
            client.selected(asked, progress=progress)
        _print(client, asked.id, 20)


def _print(client: Diffin, selection: str, limit: int) -> None:
    found = client.selection(selection)
    result = found.result or {}
    parts = ", ".join(f"{part} {result[part]}" for part in ("keep", "remove", "relabel") if part in result)
    out.print(f"{found.type}  {found.status}  {parts}".rstrip(), markup=False)
    if found.error:
        out.print(f"  {found.error.detail}", markup=False)
    if result.get("predicted_change") is not None:
        out.print(f"predicted change of the query loss: {result['predicted_change']:+.3e}", markup=False)
    if "verification" in result:
        out.print(result["verification"]["text"], markup=False)
    for warning in result.get("warnings", []):
        out.print(f"  {warning['code']}: {warning['detail']}", markup=False)
    if found.status != "succeeded":
        return
    table = columns(
        "sample", "action", "score", "suspicion", "label", "suggested", "confidence", numbers=True
    )
    for row in client.samples(found, limit=limit):
        name = str(row.sample_index if row.sample_id is None else row.sample_id)
        numbers = (row.suspicion, row.label, row.suggested_label, row.confidence)
        table.add_row(name, row.action, f"{row.score:+.3e}", *map(plain, numbers))
    out.print(table)
