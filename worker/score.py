"""The units that compute: the sweep over the checkpoints, and the scores of blocks of samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from app.store import jobs, work
from app.store.tables import Job, Work
from worker import job as influence_job
from worker.influence.errors import NonFiniteError, SampleTooLargeError
from worker.influence.memory import halving
from worker.influence.methods import Chunk, Sweep
from worker.job import InfluenceJob, Place, locked
from worker.lease import Renewal
from worker.problems import TOO_LARGE, UserError
from worker.process import Process
from worker.vectors import load_sweeps, save_block, save_sweeps


def sweep(mine: Process, row: Work, renewal: Renewal) -> None:
    """Computes the vectors that all samples share at one checkpoint, from those of the one after it."""
    job, place = influence_job.load(mine, row.subject), Place.of(row.payload)
    compute, trajectory = job.method.sweep, job.runs[place.run]
    assert compute is not None  # noqa: S101  (else none was planned)
    follows = job.method.chained and place.k + 1 < len(trajectory.checkpoints)
    columns: Sequence[int | None] = range(len(job.queries)) if job.asked.by_query else [None]
    carries = [one.carry for one in _swept(mine, job, place._replace(k=place.k + 1))] if follows else None
    started = time.monotonic()

    def of(column: int | None) -> Sweep:
        return compute(
            job.task,
            trajectory,
            place.k,
            job.train_data(renewal.tick),
            job.query_data(renewal.tick, column),
            carries[column or 0] if carries else None,
            seed=job.seed + place.repeat,
            chunk=_plan(mine, job)["chunk"],
            options=job.options_at(place),
        )

    swept: list[Sweep] = checked(lambda: [of(column) for column in columns])
    notes = {name: max(one.notes[name] for one in swept) for name in swept[0].notes}
    result = {"notes": notes, "seconds": time.monotonic() - started}
    _deliver(mine, row, renewal, result, partial(save_sweeps, swept))


def block(mine: Process, row: Work, renewal: Renewal) -> None:
    """Scores a range of samples at one checkpoint."""
    job, place = influence_job.load(mine, row.subject), Place.of(row.payload)
    swept = _swept(mine, job, place) if job.method.sweep is not None else [Sweep({})]
    trajectory, options, per_sample = job.runs[place.run], job.options_at(place), job.per_sample(place)
    data = job.train_data(lambda samples: renewal.tick(samples * per_sample))
    started = time.monotonic()

    def score(rows: Sequence[int]) -> list[Chunk]:
        inputs, targets = next(data.chunks(len(rows), rows))
        try:
            return [
                job.method.score_chunk(
                    job.task, trajectory, place.k, one.vectors, inputs, targets, rows, options=options
                )
                for one in swept
            ]
        except NonFiniteError as bad:
            raise bad.shifted(rows[0]) from None

    rows = range(row.payload["start"], row.payload["stop"])
    chunks = checked(lambda: list(halving(score, rows, _plan(mine, job)["chunk"], job.task.group)))
    result = {"seconds": time.monotonic() - started}
    _deliver(mine, row, renewal, result, partial(save_block, chunks))
    mine.figures.add("samples_scored", value=len(rows))


def _deliver(
    mine: Process, row: Work, renewal: Renewal, result: dict[str, Any], write: Callable[[Path], None]
) -> None:
    """Keeps what `write` puts into a file as the unit's result, and queues what waited for it."""
    with mine.blobs.stage() as staged:
        write(staged)
        with mine.blobs.ahead(staged), mine.database.transaction() as session:
            record = locked(session, row.subject)
            blob = mine.blobs.keep(session, staged)
            work.finish(session, renewal.lease, result=result, result_blob=blob)
            jobs.stage_done(session, mine.blobs, record, row.stage)


def _plan(mine: Process, job: InfluenceJob) -> dict[str, Any]:
    """The sizes every unit of the job agrees on."""
    if "plan" not in mine.at_hand:
        with mine.database.snapshot() as session:
            mine.at_hand["plan"] = session.get_one(Job, job.id).plan
    agreed: dict[str, Any] = mine.at_hand["plan"]
    return agreed


def _swept(mine: Process, job: InfluenceJob, place: Place) -> list[Sweep]:
    """What the sweep there found, for each query or for all together; the last one used is kept at hand."""
    if mine.at_hand.get("swept_at") != place:
        with mine.database.snapshot() as session:
            unit = next(one for one in work.of(session, job.id, "sweep") if Place.of(one.payload) == place)
            path = mine.blobs.path(session, unit.result_blob or "")
        mine.at_hand.update(swept_at=place, swept=load_sweeps(path, job.names.measured, job.device))
    swept: list[Sweep] = mine.at_hand["swept"]
    return swept


def checked(compute: Callable[[], Any]) -> Any:
    """What `compute` returns; its refusals become the user's problem."""
    try:
        return compute()
    except NonFiniteError as bad:
        raise UserError(
            "non_finite",
            f"{bad}. Look at that checkpoint's values and learning rates, at targets of absurd size, and at "
            "epsilon, if you gave one.",
        ) from bad
    except ArithmeticError as overflow:
        raise UserError(
            "non_finite", f"A number is too large ({overflow}): look at the learning rates."
        ) from overflow
    except SampleTooLargeError as too_large:
        raise UserError("out_of_memory", TOO_LARGE) from too_large
