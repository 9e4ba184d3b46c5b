"""API keys from the shell, with an admin key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from diffin.calls.keys import SCOPES, ApiKey
from diffin.commands.shared import ROWS, columns, err, out, service

DAY = 24 * 3600


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys; wants an admin key."""


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    default=("read", "write"),
    show_default=True,
    help="Repeatable.",
)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Until it opens nothing any more.")
@click.option("--project", help="Another than one's own; for admins of the project `default`.")
def create_key(name: str, scopes: Sequence[str], days: float | None, project: str | None) -> None:
    """Make a key; print its text, which is shown this once."""
    seconds = None if days is None else max(days * DAY, 1)
    _print_made(service().create_key(name, scopes, expires_in=seconds, project=project))


@keys.command("list")
@click.option("-n", "--limit", "limit", type=ROWS, default=50, show_default=True, help="Rows.")
@click.option("--project", help="Another than one's own; for admins of the project `default`.")
@click.option("--all", "everything", is_flag=True, help="With those that are expired or revoked.")
def list_keys(limit: int, project: str | None, everything: bool) -> None:
    """List the keys, newest first."""
    table = columns("key", "status", "scopes", "created", "last used", "expires", "name")
    status = None if everything else "live"
    for one in service().keys(status=status, project=project, limit=limit):
        times = (_time(at) for at in (one.created_at, one.last_used_at, one.expires_at))
        table.add_row(one.id, one.status, ",".join(one.scopes), *times, one.name)
    out.print(table)


@keys.command("rotate")
@click.argument("key")
@click.option(
    "--overlap-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="How long the old key is good beside the new one.",
)
def rotate_key(key: str, overlap_hours: float) -> None:
    """Replace a KEY (key_…); print the text of the new one, which is shown this once."""
    _print_made(service().rotate_key(key, overlap=overlap_hours * 3600))


@keys.command("revoke")
@click.argument("key")
def revoke_key(key: str) -> None:
    """End a KEY (key_…) at once, and the sessions begun with it."""
    service().revoke_key(key)
    click.echo(f"{key} revoked")


def _print_made(made: ApiKey) -> None:
    err.print(f"{made.id}  {made.project_id}  {','.join(made.scopes)}", markup=False, highlight=False)
    if made.key is None:
        raise click.ClickException(f"the answer got lost, and its text with it: diffin keys rotate {made.id}")
    click.echo(made.key)


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
