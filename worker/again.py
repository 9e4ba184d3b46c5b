"""A run trained again, on all its samples or on what a selection leaves of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from sqlalchemy.orm import Session

from app.store import tables
from worker.influence.errors import DivergedError
from worker.influence.order import loader_order
from worker.influence.selection.parts import Part
from worker.influence.task import Tensors
from worker.influence.training import State, ensure_trained, steps
from worker.influence.trajectory import Data
from worker.lease import Renewal
from worker.problems import UserError
from worker.process import Process
from worker.train import initial
from worker.training import TrainJob, of_record

LOOKED_AT = 100  # steps after which the losses are looked at: to wait for each would stall a GPU


def load(mine: Process, job_id: str, request: Mapping[str, Any], seed: int) -> TrainJob:
    """How the job's run is trained, its initial weights drawn by `seed` where no checkpoint holds them.

    Args:
        request: of the selection; its `training` is what a job that trains is asked.
    """
    with mine.database.snapshot() as session:
        return of_record(mine, session, _record(session, job_id, request["training"], seed))


def _record(session: Session, job_id: str, training: Mapping[str, Any], seed: int) -> tables.Job:
    """A job that trains, which is no record."""
    source = session.get_one(tables.Job, job_id)
    run = tables.JobTrajectory(position=0, trajectory_id=training["trajectory_id"])
    return tables.Job(
        id=job_id,
        runs=[run],
        train_dataset_id=source.train_dataset_id,
        query_dataset_id=source.query_dataset_id,
        checkpoint_ids=training["checkpoint_ids"],
        request={**training, "seed": seed},
    )


def train_again(
    job: TrainJob,
    rows: Sequence[int] | None,
    labels: Mapping[int, float],
    seed: int,
    renewal: Renewal,
    see: Callable[[int, State, Tensors], None] = lambda step, state, held: None,
    *,
    longer: int = 1,
    shown: Callable[[Data], Data] = lambda data: data,
) -> tuple[Tensors, Tensors] | None:
    """(what is trained, the rest) after the recipe on these rows; None where training diverged.

    Args:
        rows: of the training set; None: all.
        labels: new ones, by row.
        seed: of the batch order.
        see: told after each step of its number, from 1, the state, and what is not trained.
        longer: times as many steps as the recipe says, the learning rates stretched to them.
        shown: what each batch is read through.

    Raises:
        UserError: what is left gives no whole batch.
    """
    data: Data = Part(job.data(job.train, lambda samples: renewal.tick()), rows, labels)
    recipe, usual = job.recipe, job.recipe.steps(len(data))
    if usual == 0:
        raise UserError(
            "batch_too_large",
            f"The {len(data)} samples that are left give no batch of {recipe.batch_size}"
            f"{', which drop_last of the recipe wants whole' if recipe.drop_last else ''}: select fewer.",
        )
    each, total = recipe.rates(usual) or map(job.schedule.rate, range(usual)), longer * usual
    rates = tuple(rate for rate in each for _ in range(longer))
    schedule = replace(
        job.schedule, steps=(total,), learning_rates=(rates,), total_steps=total, train_size=len(data)
    )
    order = loader_order(len(data), recipe.batch_size, total, seed, drop_last=recipe.drop_last)
    params, held = initial(job, data)
    data = shown(data)
    state, losses = State(params, {}), []
    try:
        for step, done in enumerate(steps(job.task, schedule, order, data, state, held, 0, total), start=1):
            state = done.state
            losses.append(done.loss)
            renewal.tick(1 / total)
            see(step, state, held)
            if len(losses) == LOOKED_AT:
                ensure_trained(torch.stack(losses), state, 0)
                losses = []
        if losses:
            ensure_trained(torch.stack(losses), state, 0)
    except DivergedError:
        return None
    return state.params, held
