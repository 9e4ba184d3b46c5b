"""Commands that run a service, by settings from DIFFIN_* (see README), and one that asks its code."""

from __future__ import annotations

import os

import click
from click.core import ParameterSource

from diffin.commands.shared import (
    extra,
)


def keep_private() -> None:
    """What a service keeps is its account's alone: no other one may read the files and folders it makes."""
    os.umask(0o077)


@click.command()
@click.argument("name")
@click.option("--config", default="{}", help="The network's config, as JSON.")
@click.option("--task", default="classification", show_default=True, help="Of the trajectory.")
def network(name: str, config: str, task: str) -> None:
    """Print the tensors that checkpoints of a registered network or a language model (hf/…) must hold."""
    with extra("worker"):
        from pydantic import ValidationError

        from app.catalog import ARCHITECTURES
        from worker.networks import expected_of
        from worker.problems import UserError
    if name not in ARCHITECTURES:
        raise click.BadParameter(f"no network is called {name!r}; there are {', '.join(ARCHITECTURES)}")
    try:
        checked = ARCHITECTURES[name].config.model_validate_json(config)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors())
        raise click.BadParameter(f"--config: {'; '.join(wrong)}") from error
    try:
        tensors = expected_of(name, checked.model_dump(), task)
    except UserError as error:
        raise click.BadParameter(f"--config: {error}") from error
    for kind, specs in (("", tensors.parameters), ("  buffer", tensors.buffers)):
        for tensor, spec in specs.items():
            click.echo(
                f"{tensor}  {spec.dtype} {list(spec.shape)}{kind}{'  optional' if spec.optional else ''}"
            )


@click.command()
def serve() -> None:
    """Run the whole service here: API and worker, until Ctrl-C or SIGTERM."""
    keep_private()
    with extra("worker"):
        from app.embedded import serve as run
        from app.settings import Settings
    run(Settings())


@click.command()
def api() -> None:
    """Run the HTTP front end alone, in DIFFIN_API_PROCESSES processes."""
    keep_private()
    with extra("server"):
        from app.front_end import run
        from app.settings import Settings
    run(Settings())


@click.command()
@click.option("--queues", default="cpu,gpu", show_default=True, help="What to take work from.")
def worker(queues: str) -> None:
    """Run a worker: one process, one unit of work at a time; any number may run."""
    keep_private()
    with extra("worker"):
        from worker.main import run
    run([queue.strip() for queue in queues.split(",")])


@click.command()
@click.option("--url", help="Where the API answers; else DIFFIN_URL, or where the embedded one listens.")
@click.pass_context
def doctor(context: click.Context, url: str | None) -> None:
    """Check a deployment, part by part, and say what to mend; exits with 1 where something is wrong."""
    keep_private()
    above = context.find_root()
    if url is None and above.get_parameter_source("url") is not ParameterSource.DEFAULT:
        url = above.params["url"]
    with extra("server"):
        from app.doctor import examine
        from app.settings import Settings
    wrong = False
    for part, found, mend in examine(Settings(), url=url):
        wrong = wrong or bool(mend)
        click.echo(f"{'BAD' if mend else 'ok '}  {part:<10}  {found}")
        if mend:
            click.echo(f"{'':<17}mend: {mend}")
    raise SystemExit(int(wrong))


@click.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    keep_private()
    with extra("server"):
        from app.settings import Settings
        from migrations import upgrade
    upgrade(Settings().database_url)
