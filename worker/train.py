"""The units of a job that trains: prepare, some seconds of steps at a time, and the trajectory at the end.

Each unit starts from the state that the one before it wrote, so that one that is killed and done again leaves
the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import torch

from app.store import jobs, training, work
from app.store.tables import Work
from app.store.training import Written
from worker import curve
from worker.influence.task import Tensors
from worker.influence.training import (
    State,
    batch_norms,
    carries,
    ensure_trained,
    settle_batch_norms,
    steps,
)
from worker.influence.trajectory import Data, draw_rows
from worker.job import finished, locked
from worker.lease import Renewal
from worker.loading.checkpoint import CheckpointInfo
from worker.outcome import outcome
from worker.process import Process
from worker.train_problems import ensure_fit, fitting, user_problems
from worker.training import TrainJob, load, read_state, read_tensors, write_memory, write_tensors

MOST_UNITS = 5_000  # of one job: more would cost the database more than they save
MOST_KEPT = 100  # checkpoints of one unit: each is a file or two in its transaction
MEASURED = 3  # steps taken for the time, the first of which pays for warming up
SETTLED_ON = 512  # samples that batch norm's statistics are taken from


def prepare(mine: Process, row: Work, renewal: Renewal) -> None:
    """Keeps the initial state, measures some steps, and lays out the units."""
    job = load(mine, row.subject)
    data = job.data(job.train, _alive(renewal))
    with user_problems(job):
        params, held = initial(job, data)
        ensure_fit(job, data, params, held)
        measured = min(MEASURED, job.total)
        seconds, before = [], time.monotonic()
        for _ in steps(job.task, job.schedule, job.order, data, State(params, {}), held, 0, measured):
            seconds.append(time.monotonic() - before)
            before = time.monotonic()
    wanted = mine.settings.block_seconds / max(min(seconds), 1e-9)
    size = max(1, round(wanted), -(-job.total // MOST_UNITS))
    bounds = _bounds(job.total, size, sorted(job.kept))
    with ExitStack() as files:
        first = _written(mine, files, job, 0, State(params, {}), held)
        with mine.blobs.ahead(*first.files), mine.database.transaction() as session:
            record = finished(session, mine, job.id, renewal.lease)
            if record is None:
                return
            training.keep(session, mine.blobs, job.id, first)
            jobs.set_plan(record, {"unit": size}, job.total)
            ready = "prepare"
            for start, stop in pairwise(bounds):
                span = {"start": start, "stop": stop}
                stage = f"train:{start}"
                work.add(
                    session,
                    "train",
                    job.id,
                    record.project_id,
                    stage=stage,
                    waits_for=ready,
                    payload=span,
                    total=stop - start,
                )
                ready = stage
            work.add(session, "conclude", job.id, record.project_id, waits_for=ready)
            jobs.stage_done(session, mine.blobs, record, "prepare")


def train(mine: Process, row: Work, renewal: Renewal) -> None:
    """Takes the steps from `start` to `stop`, and keeps the states that were asked for and the last."""
    job, start, stop = load(mine, row.subject), row.payload["start"], row.payload["stop"]
    began = time.monotonic()
    with mine.database.snapshot() as session:
        state, held = read_state(mine, session, job, training.state_at(session, job.id, start))
    data = job.data(job.train, _alive(renewal))
    losses: list[torch.Tensor] = []
    with ExitStack() as files:
        written: list[Written] = []
        with user_problems(job):
            for done in steps(job.task, job.schedule, job.order, data, state, held, start, stop):
                losses.append(done.loss)
                state, step = done.state, start + len(losses)
                if step in job.kept or step == stop:
                    written.append(_written(mine, files, job, step, state, held))
                renewal.tick(1)
            ensure_trained(torch.stack(losses), state, start)
        result = {
            "curve": curve.binned(torch.stack(losses).tolist(), start, job.total),
            "seconds": time.monotonic() - began,
        }
        files.enter_context(mine.blobs.ahead(*(file for one in written for file in one.files)))
        with mine.database.transaction() as session:
            record = locked(session, job.id)
            for one in written:
                training.keep(session, mine.blobs, job.id, one)
            training.pass_by(session, mine.blobs, job.id, start)
            work.finish(session, renewal.lease, result=result)
            jobs.stage_done(session, mine.blobs, record, row.stage)


def conclude(mine: Process, row: Work, renewal: Renewal) -> None:
    """Looks at what was learned; the trajectory, the job's result and its end are one transaction."""
    job = load(mine, row.subject)
    with mine.database.snapshot() as session:
        units = work.of(session, job.id, "train")
        state, held = read_state(mine, session, job, training.state_at(session, job.id, job.total))
    began = time.monotonic()
    memory = mine.settings.memory_bytes
    with user_problems(job):
        on_train = outcome(job.task, job.data(job.train, _alive(renewal)), state.params, held, memory)
        on_query = (
            outcome(job.task, job.data(job.query, _alive(renewal)), state.params, held, memory)
            if job.query is not None
            else None
        )
    busy = sum((unit.result or {})["seconds"] for unit in units) + time.monotonic() - began
    points = curve.points([(unit.result or {})["curve"] for unit in units], job.total)
    evaluated = len(job.train) + (len(job.query) if job.query is not None else 0)
    result: dict[str, Any] = {
        "train": on_train,
        "query": on_query,
        "curve": points,
        "warnings": _warnings(job, points, on_train["loss"]),
    }
    recipe = job.recipe
    with mine.database.transaction() as session:
        record = finished(session, mine, job.id, renewal.lease)
        if record is None:
            return
        trajectory = training.record(
            session,
            mine.blobs,
            job.id,
            [job.schedule.rate(step) for step in range(job.total)],
            source=record.trajectory_id,
            run={
                "project_id": record.project_id,
                "name": record.name or f"trained by {job.id}",
                "notes": f"Trained by {job.id}.",
                "meta": record.meta,
                "architecture": job.described.architecture,
                "task": job.described.task,
                "preprocessing": job.described.preprocessing,
                "optimizer": recipe.optimizer.model_dump() if recipe.optimizer else {},
                "recipe": recipe.model_dump(),
                "batch_size": recipe.batch_size,
                "train_size": len(job.train),
                "total_steps": job.total,
            },
        )
        result["trajectory_id"] = trajectory.id
        result["timing"] = {
            "device": str(job.device),
            "busy_seconds": busy,
            "seconds": jobs.seconds_running(record),
            "forward_passes": 3 * recipe.samples(len(job.train)) + evaluated,
        }
        jobs.succeed(session, mine.blobs, record, result)


def _alive(renewal: Renewal) -> Callable[[int], None]:
    """To be told of samples read, which are no progress here: it only sees to it that the unit goes on."""
    return lambda samples: renewal.tick()


def initial(job: TrainJob, data: Data) -> tuple[Tensors, Tensors]:
    """What training starts from: (what is trained, the rest)."""
    if job.start is not None:
        return read_tensors(job, job.start)
    network = job.task.network
    if batch_norms(network):
        rows = draw_rows(len(data), min(SETTLED_ON, len(data)), seed=job.recipe.seed or 0)
        [batch] = data.chunks(len(rows), rows)
        with fitting(batch[0]):
            settle_batch_norms(network, *(batch if job.task.in_groups else batch[:1]))
    found = {name: t.detach().clone() for name, t in network.state_dict().items()}
    return {name: found[name] for name in job.trained}, {name: found[name] for name in job.held}


def _bounds(total: int, size: int, kept: Sequence[int]) -> list[int]:
    """Where units of `size` steps begin and end, each with MOST_KEPT of the steps `kept` at most."""
    bounds = [0]
    while bounds[-1] < total:
        start = bounds[-1]
        within = [step for step in kept if start < step <= start + size]
        stop = min(start + size, total)
        bounds.append(within[MOST_KEPT - 1] if len(within) > MOST_KEPT else stop)
    return bounds


def _written(
    mine: Process, files: ExitStack, job: TrainJob, step: int, state: State, held: Tensors
) -> Written:
    tensors = files.enter_context(mine.blobs.stage())
    write_tensors(state.params, held, tensors)
    carried = carries(job.schedule) if state.memory else ()
    optimizer = files.enter_context(mine.blobs.stage()) if carried else None
    if optimizer is not None:
        write_memory(state, optimizer)
    info = CheckpointInfo(
        num_tensors=len(state.params) + len(held),
        num_parameters=sum(t.numel() for t in state.params.values()),
        dtype="float32",
        parameters=job.trained,
        shapes=[list(state.params[name].shape) for name in job.trained],
    )
    return Written(step, step in job.kept, tensors, optimizer, carried, info.as_dict())


def _warnings(job: TrainJob, points: list[dict[str, Any]], final: float) -> list[dict[str, str]]:
    told = []
    if final > points[0]["loss"]:
        told.append(
            {
                "code": "loss_rose",
                "detail": f"The training loss ended at {final:.4g}, above the {points[0]['loss']:.4g} it "
                "began with: lower the learning rate, or train longer.",
            }
        )
    if batch_norms(job.task.network):
        told.append(
            {
                "code": "batch_norm_frozen",
                "detail": "Batch norm's statistics were taken from the training set at the initial weights "
                "and held fixed while training, so that a sample's loss does not depend on its batch. A norm "
                "without running statistics (norm: group) trains as elsewhere.",
            }
        )
    return told
