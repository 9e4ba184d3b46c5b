"""`diffin`: questions to a service from the shell, and the commands that run one."""

from __future__ import annotations

from typing import Any

import click

from diffin import __version__
from diffin.client import LOCAL
from diffin.commands import following, keys, questions, running, selecting
from diffin.errors import DiffinError

SERVER = ("serve", "api", "worker", "migrate")  # whose failures are for the log, with their traceback


class Commands(click.Group):
    """Says what went wrong in words, and exits with 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except DiffinError as error:
            request = f"\n  request {error.request_id}" if error.request_id else ""
            raise click.ClickException(f"{error}{request}") from error
        except BrokenPipeError:
            raise  # who read the output has enough: click ends without a word
        except (OSError, ValueError) as error:  # TimeoutError too
            if context.invoked_subcommand in SERVER:
                raise
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands)
@click.option(
    "--url", envvar="DIFFIN_URL", default=LOCAL, show_default=True, help="Where the service listens."
)
@click.option("--key", envvar="DIFFIN_API_KEY", help="API key; else DIFFIN_API_KEY.")
@click.version_option(__version__, prog_name="diffin")
@click.pass_context
def main(context: click.Context, url: str, key: str | None) -> None:
    """Which training samples hurt or help a model: Diff-In influence scores."""
    context.obj = (url, key)


for command in (
    *(questions.submit, questions.train, questions.evaluate),
    *(following.status, following.wait, following.top, following.influences, following.export),
    *(following.compare, following.cancel, following.jobs, following.datasets),
    *(selecting.clean, selecting.coreset, selecting.deletion),
    *(selecting.selection, selecting.selections, selecting.manifest),
    keys.keys,
    *(running.network, running.serve, running.api, running.worker, running.migrate, running.doctor),
):
    main.add_command(command)


if __name__ == "__main__":
    main()
