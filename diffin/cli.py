"""`diffin`: questions to a service from the shell, and the commands that run one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from diffin import __version__
from diffin.client import LOCAL, Diffin, Order, Side
from diffin.errors import DiffinError
from diffin.models import Dataset, Trajectory
from diffin.progress import sending, waiting
from diffin.recording import Recording

# A pipe has no width to wrap at.
out = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=250)
err = Console(stderr=True)
ROWS = click.IntRange(min=1)


SERVER = ("serve", "api", "worker", "migrate")  # whose failures are for the log, with their traceback


class Commands(click.Group):
    """Says what went wrong in words, and exits with 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except DiffinError as error:
            request = f"\n  request {error.request_id}" if error.request_id else ""
            raise click.ClickException(f"{error}{request}") from error
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


def _client() -> Diffin:
    url, key = click.get_current_context().find_root().obj
    return click.get_current_context().with_resource(Diffin(url, key, retries=3))


# ---- questions


@main.command()
@click.option("--train", required=True, help="Training set: a file, or the id of one uploaded (ds_…).")
@click.option("--query", help="Query set, likewise: whose loss is asked about.")
@click.option(
    "--trajectory",
    "trajectories",
    required=True,
    multiple=True,
    help="A Recorder's folder, or the id of one uploaded (tr_…); several are averaged.",
)
@click.option("--method", default="diff_in", show_default=True, help="See `GET /v1/methods`.")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="Option of the method; repeatable.")
@click.option("--seed", default=0, show_default=True)
@click.option("--name", help="Of the job.")
@click.option("--estimate", is_flag=True, help="Print what it would cost, and ask nothing.")
@click.option("--wait/--no-wait", default=False, help="Wait, then print the most harmful samples.")
def submit(
    train: str,
    query: str | None,
    trajectories: Sequence[str],
    method: str,
    options: Sequence[str],
    seed: int,
    name: str | None,
    estimate: bool,
    wait: bool,
) -> None:
    """Ask which training samples raised or lowered the query loss; print the job's id."""
    client = _client()
    asked = {"name": method} | dict(map(_option, options))
    _check_method(client, asked)  # before anything is sent
    runs = [_trajectory(client, one) for one in trajectories]
    run = runs[0] if len(runs) == 1 else runs
    train_set, query_set = _dataset(client, train), _dataset(client, query) if query else None
    if estimate:
        out.print_json(data=vars(client.estimate(run, train_set, query_set, method=asked, seed=seed)))
        return
    job = client.submit(run, train_set, query_set, method=asked, seed=seed, name=name)
    click.echo(job.id)
    if wait:
        _wait(client, job.id, None)
        _top(client, job.id, 20, "harmful")


@main.command()
@click.option("--data", required=True, help="Training set: a file, or the id of one uploaded (ds_…).")
@click.option("--query", help="Query set, likewise: how well it does there is told at the end.")
@click.option("--architecture", help="Name of a registered network; see `GET /v1/architectures`.")
@click.option("--config", default="{}", help="The network's config, as JSON.")
@click.option("--trajectory", help="In place of --architecture: the id of a run of the network (tr_…).")
@click.option("--recipe", help="The recipe, as JSON or a file of it; else the trajectory's.")
@click.option("--checkpoints", default=10, show_default=True, type=ROWS, help="States to keep.")
@click.option("--every", type=ROWS, help="In place of --checkpoints: keep each state so many steps on.")
@click.option("--seed", type=int, help="Of the initial weights.")
@click.option("--name", help="Of the run.")
@click.option("--wait/--no-wait", default=False, help="Wait, then print the id of the run.")
def train(
    data: str,
    query: str | None,
    architecture: str | None,
    config: str,
    trajectory: str | None,
    recipe: str | None,
    checkpoints: int,
    every: int | None,
    seed: int | None,
    name: str | None,
    wait: bool,
) -> None:
    """Train a network at the service and record the run; print the job's id."""
    client = _client()
    told = _json("--recipe", recipe) if recipe else None
    network = {"name": architecture, "config": _json("--config", config)} if architecture else None
    train_set, query_set = _dataset(client, data), _dataset(client, query) if query else None
    job = client.train(
        train_set,
        query=query_set,
        architecture=network,
        trajectory=trajectory,
        recipe=told,
        checkpoints={"every": every} if every else checkpoints,
        seed=seed,
        name=name,
    )
    click.echo(job.id)
    if wait:
        with waiting(job.id, err) as progress:
            run = client.trained(job, progress=progress)
        click.echo(run.id)


@main.command()
@click.option("--train", "data", required=True, help="Training set: a file, or the id of one (ds_…).")
@click.option("--query", required=True, help="Query set, likewise.")
@click.option("--trajectory", required=True, help="A Recorder's folder, or the id of one uploaded (tr_…).")
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=("diff_in", "tracin"),
    show_default=True,
    help="A name, or a method with its options as JSON; repeatable.",
)
@click.option("--leave-one-out", default=60, show_default=True, help="Retrainings without one sample.")
@click.option("--subsets", default=0, show_default=True, help="Retrainings on random halves.")
@click.option("--orders", default=1, show_default=True, help="Batch orders; 1: the run's own.")
@click.option("--seed", default=0, show_default=True)
@click.option("--name", help="Of the job.")
@click.option("--wait/--no-wait", default=False, help="Wait, then print the verdict.")
def evaluate(
    data: str,
    query: str,
    trajectory: str,
    methods: Sequence[str],
    leave_one_out: int,
    subsets: int,
    orders: int,
    seed: int,
    name: str | None,
    wait: bool,
) -> None:
    """Ask how far to trust the scores on a run, by training it again; print the job's id."""
    client = _client()
    asked = [_json("--method", one) if one.lstrip().startswith("{") else {"name": one} for one in methods]
    job = client.evaluate(
        _trajectory(client, trajectory),
        _dataset(client, data),
        _dataset(client, query),
        methods=asked,
        leave_one_out=leave_one_out,
        subsets=subsets,
        orders=orders,
        seed=seed,
        name=name,
    )
    click.echo(job.id)
    if wait:
        _wait(client, job.id, None)
        verdict = (client.job(job).result or {})["verdict"]
        out.print(f"{verdict['level']}: {verdict['text']}", markup=False)


@main.command()
@click.argument("job")
def status(job: str) -> None:
    """Print one job."""
    found = _client().job(job)
    progress = found.progress
    done = f"  {progress.completed:g}/{progress.total:g} {progress.unit}" if progress.total else ""
    out.print(f"{found.id}  {found.status}{done}  {found.name or ''}".rstrip(), markup=False)
    if found.error:
        out.print(f"  {found.error.detail}", markup=False)
    for warning in (found.result or {}).get("warnings", []):
        out.print(f"  {warning['code']}: {warning['detail']}", markup=False)


@main.command()
@click.argument("job")
@click.option("--timeout", type=float, help="Seconds to wait at most; the job goes on.")
def wait(job: str, timeout: float | None) -> None:
    """Wait for a job; exit with 1 unless it succeeded."""
    _wait(_client(), job, timeout)


@main.command()
@click.argument("job")
@click.option("-n", "limit", type=ROWS, default=20, show_default=True, help="Rows.")
@click.option(
    "--order",
    type=click.Choice(["harmful", "helpful", "self_influence", "suspicion", "index"]),
    default="harmful",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def top(job: str, limit: int, order: Order, as_json: bool) -> None:
    """Print the most harmful (or helpful) training samples of a job."""
    client = _client()
    if as_json:
        for row in client.scores(job, order=order, limit=limit):
            click.echo(json.dumps({k: v for k, v in vars(row).items() if k != "contributions"}))
        return
    _top(client, job, limit, order)


@main.command()
@click.argument("job")
@click.argument("query", type=click.IntRange(min=0))
@click.option("-n", "limit", type=ROWS, default=10, show_default=True, help="Rows of each.")
def influences(job: str, query: int, limit: int) -> None:
    """Print the training samples behind one QUERY sample (jobs with per_query=true)."""
    client = _client()
    sides: tuple[Side, ...] = ("opponents", "proponents")
    for order in sides:
        table = _table(order, "sample", "score", "label", numbers=True)
        for row in client.influences(job, query, order=order, limit=limit):
            name = str(row.sample_index if row.sample_id is None else row.sample_id)
            table.add_row(str(row.rank), name, f"{row.score:+.3e}", _plain(row.label))
        out.print(table)


@main.command()
@click.argument("job")
def cancel(job: str) -> None:
    """Cancel a job."""
    click.echo(_client().cancel(job).status)


@main.command()
@click.option("-n", "limit", type=ROWS, default=20, show_default=True)
def jobs(limit: int) -> None:
    """List the jobs, newest first."""
    table = _table("job", "type", "status", "method", "name", "created")
    for job in _client().jobs(limit=limit):
        created = f"{job.created_at:%Y-%m-%d %H:%M}" if job.created_at else ""
        table.add_row(job.id, job.type, job.status, (job.method or {}).get("name", ""), job.name, created)
    out.print(table)


@main.command()
@click.option("-n", "limit", type=ROWS, default=20, show_default=True)
def datasets(limit: int) -> None:
    """List the data sets."""
    table = _table("data set", "status", "samples", "classes", "name")
    for one in _client().datasets(limit=limit):
        table.add_row(one.id, one.status, str(one.num_samples or ""), str(one.num_classes or ""), one.name)
    out.print(table)


@main.command()
@click.argument("name")
@click.option("--config", default="{}", help="The network's config, as JSON.")
@click.option("--task", default="classification", show_default=True, help="Of the trajectory.")
def network(name: str, config: str, task: str) -> None:
    """Print the tensors that checkpoints of a registered network or a language model (hf/…) must hold."""
    with _extra("worker"):
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


# ---- running a service; settings come from DIFFIN_* (see README)


@main.command()
def serve() -> None:
    """Run the whole service here: API and worker, until Ctrl-C or SIGTERM."""
    with _extra("worker"):
        from app.embedded import serve as run
        from app.settings import Settings
    run(Settings())


@main.command()
def api() -> None:
    """Run the HTTP front end alone."""
    with _extra("server"):
        from app.embedded import api as run
        from app.settings import Settings
    run(Settings())


@main.command()
@click.option("--queues", default="cpu,gpu", show_default=True, help="What to take work from.")
def worker(queues: str) -> None:
    """Run a worker: one process, one unit of work at a time; any number may run."""
    with _extra("worker"):
        from worker.main import run
    run([queue.strip() for queue in queues.split(",")])


@main.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    with _extra("server"):
        from app.settings import Settings
        from migrations import upgrade
    upgrade(Settings().database_url)


# ---- how


@contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}: this command needs `pip install 'diffin[{name}]'`") from error


def _option(given: str) -> tuple[str, Any]:
    key, equals, value = given.partition("=")
    if not equals:
        raise click.BadParameter(f"-o {given}: write it as key=value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _json(option: str, given: str) -> Any:
    """JSON as it is given, or as it stands in the file that is named."""
    text = given if given.lstrip().startswith("{") else Path(given).read_text()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"{option}: {error}") from error


def _check_method(client: Diffin, asked: dict[str, Any]) -> None:
    known = {method["name"]: method["schema"]["properties"] for method in client.methods()}
    if asked["name"] not in known:
        raise click.BadParameter(f"no method is called {asked['name']!r}; there are {', '.join(known)}")
    if unknown := asked.keys() - known[asked["name"]].keys():
        options = ", ".join(known[asked["name"]].keys() - {"name"}) or "none"
        raise click.BadParameter(f"{asked['name']} has no option {', '.join(unknown)}; it has {options}")


def _dataset(client: Diffin, given: str) -> Dataset:
    if not Path(given).exists():
        if given.startswith("ds_"):
            return client.dataset(given)
        raise click.BadParameter(f"there is no file {given}, and the id of a data set begins with ds_")
    with sending(f"sending {Path(given).name}", err) as progress:
        return client.upload_dataset(given, progress=progress)


def _trajectory(client: Diffin, given: str) -> Trajectory:
    if given.startswith("tr_") and not Path(given).exists():
        return client.trajectory(given)
    recording = Recording.open(given)
    with sending("sending checkpoints", err, files=True) as progress:
        return recording.upload(client, progress=progress)


def _wait(client: Diffin, job: str, timeout: float | None) -> None:
    with waiting(job, err) as progress:
        client.wait(job, timeout=timeout, progress=progress)


def _top(client: Diffin, job: str, limit: int, order: Order) -> None:
    table = _table("rank", "sample", "score", "label", "predicted", "loss", numbers=True)
    for row in client.scores(job, order=order, limit=limit):
        name = str(row.sample_index if row.sample_id is None else row.sample_id)
        label, predicted = (_plain(value) for value in (row.label, row.predicted_label))
        table.add_row(str(row.rank), name, f"{row.score:+.3e}", label, predicted, _plain(row.loss))
    out.print(table)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _table(*columns: str, numbers: bool = False) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if numbers else "left", no_wrap=column in ("job", "data set")
        )
    return table


if __name__ == "__main__":
    main()
