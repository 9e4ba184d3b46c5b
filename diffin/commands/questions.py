"""What a user asks for: scores, a run, and how far to trust scores."""

from __future__ import annotations

from collections.abc import Sequence

import click

from diffin.commands.shared import (
    ROWS,
    check_method,
    data_sets,
    described,
    err,
    option,
    out,
    print_top,
    read_json,
    run_of,
    service,
    waited,
)
from diffin.progress import waiting


@click.command()
@click.option("--train", required=True, help="Training set: a file, its uri (s3://…), or an id (ds_…).")
@click.option("--query", help="Query set, likewise: whose loss is asked about.")
@described
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
    columns: str | None,
    tokenizer: str | None,
    trajectories: Sequence[str],
    method: str,
    options: Sequence[str],
    seed: int,
    name: str | None,
    estimate: bool,
    wait: bool,
) -> None:
    """Ask which training samples raised or lowered the query loss; print the job's id."""
    client = service()
    asked = {"name": method} | dict(map(option, options))
    check_method(client, asked)  # before anything is sent
    runs = [run_of(client, one) for one in trajectories]
    run = runs[0] if len(runs) == 1 else runs
    train_set, query_set = data_sets(client, train, query, columns, tokenizer)
    if estimate:
        out.print_json(data=vars(client.estimate(run, train_set, query_set, method=asked, seed=seed)))
        return
    job = client.submit(run, train_set, query_set, method=asked, seed=seed, name=name)
    click.echo(job.id)
    if wait:
        waited(client, job.id, None)
        print_top(client, job.id, 20, "harmful")


@click.command()
@click.option("--data", required=True, help="Training set: a file, its uri (s3://…), or an id (ds_…).")
@click.option("--query", help="Query set, likewise: how well it does there is told at the end.")
@described
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
    columns: str | None,
    tokenizer: str | None,
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
    client = service()
    told = read_json("--recipe", recipe) if recipe else None
    network = {"name": architecture, "config": read_json("--config", config)} if architecture else None
    train_set, query_set = data_sets(client, data, query, columns, tokenizer)
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


@click.command()
@click.option("--train", "data", required=True, help="Training set: a file, its uri, or an id (ds_…).")
@click.option("--query", required=True, help="Query set, likewise.")
@described
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
    columns: str | None,
    tokenizer: str | None,
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
    client = service()
    asked = [read_json("--method", one) if one.lstrip().startswith("{") else {"name": one} for one in methods]
    run = run_of(client, trajectory)
    train_set, query_set = data_sets(client, data, query, columns, tokenizer)
    job = client.evaluate(
        run,
        train_set,
        query_set or query,
        methods=asked,
        leave_one_out=leave_one_out,
        subsets=subsets,
        orders=orders,
        seed=seed,
        name=name,
    )
    click.echo(job.id)
    if wait:
        waited(client, job.id, None)
        verdict = (client.job(job).result or {})["verdict"]
        out.print(f"{verdict['level']}: {verdict['text']}", markup=False)
