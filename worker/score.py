"""The units that compute: the sweep over the checkpoints, and the scores of blocks of samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from app.store import jobs, work
from app.store.tables import Job, Work
from worker import job as influence_job
from worker.chunks import queries_at_a_time
from worker.influence.errors import NonFiniteError, SampleTooLargeError
from worker.influence.memory import halving
from worker.influence.methods import Chunk, Sweep
from worker.influence.task import Tensors
from worker.job import InfluenceJob, Place, locked
from worker.lease import Renewal
from worker.problems import TOO_LARGE, UserError
from worker.process import Process
from worker.vectors import Sweeps, joined, save_block, save_sweeps


def sweep(mine: Process, row: Work, renewal: Renewal) -> None:
    """Computes the vectors that all samples share at one checkpoint, from those of the one after it."""
    job, place = influence_job.load(mine, row.subject), Place.of(row.payload)
    compute, trajectory, plan = job.method.sweep, job.runs[place.run], _plan(mine, job)
    assert compute is not None  # noqa: S101  (else none was planned)
    follows = job.method.chained and place.k + 1 < len(trajectory.checkpoints)
    columns: Sequence[int | None] = range(len(job.queries)) if job.asked.by_query else [None]
    carried = _swept(mine, job, place._replace(k=place.k + 1)) if follows else None
    started = time.monotonic()
    notes: dict[str, float] = {}

    def of(column: int | None) -> Sweep:
        return compute(
            job.task,
            trajectory,
            place.k,
            job.train_data(renewal.tick),
            job.query_data(renewal.tick, column),
            carried.carry(column or 0) if carried else None,
            seed=job.seed + place.repeat,
            chunk=plan.get("sweep_chunk", plan["chunk"]),
            options=job.options_at(place),
        )

    def each() -> Iterator[Sweep]:
        for column in columns:
            swept: Sweep = checked(partial(of, column))
            for name, note in swept.notes.items():
                notes[name] = max(note, notes.get(name, note))
            yield swept

    with mine.blobs.stage() as staged:
        save_sweeps(each(), len(columns), staged)
        result = {"notes": notes, "seconds": time.monotonic() - started}
        _deliver(mine, row, renewal, result, staged)


def block(mine: Process, row: Work, renewal: Renewal) -> None:
    """Scores a range of samples at one checkpoint, for as many queries at a time as fit into memory."""
    job, place = influence_job.load(mine, row.subject), Place.of(row.payload)
    swept = _swept(mine, job, place) if job.method.sweep is not None else None
    trajectory, options, per_sample = job.runs[place.run], job.options_at(place), job.per_sample(place)
    queries = len(swept) if swept else 1
    at_a_time = min(queries, queries_at_a_time(mine, job))
    data = job.train_data(lambda samples: renewal.tick(samples * per_sample * at_a_time / queries))
    rows = range(row.payload["start"], row.payload["stop"])
    started = time.monotonic()

    def score(vectors: Sequence[dict[str, Tensors]], rows: Sequence[int]) -> list[Chunk]:
        inputs, targets = next(data.chunks(len(rows), rows))
        try:
            return [
                job.method.score_chunk(
                    job.task, trajectory, place.k, one, inputs, targets, rows, options=options
                )
                for one in vectors
            ]
        except NonFiniteError as bad:
            raise bad.shifted(rows[0]) from None

    found: list[Chunk] = []
    for start in range(0, queries, at_a_time):
        some = range(start, min(start + at_a_time, queries))
        of = partial(score, swept.vectors(some) if swept else [{}])
        parts = halving(of, rows, _plan(mine, job)["chunk"], job.task.group)
        found += [joined(of_query) for of_query in zip(*checked(partial(list, parts)), strict=True)]
    result = {"seconds": time.monotonic() - started}
    with mine.blobs.stage() as staged:
        save_block(found, staged)
        _deliver(mine, row, renewal, result, staged)
    mine.figures.add("samples_scored", value=len(rows))


def _deliver(mine: Process, row: Work, renewal: Renewal, result: dict[str, Any], staged: Path) -> None:
    """Keeps the staged file as the unit's result, and queues what waited for it."""
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


def _swept(mine: Process, job: InfluenceJob, place: Place) -> Sweeps:
    """What the sweep there found, for each query or for all together; the last one used is kept at hand."""
    if mine.at_hand.get("swept_at") != place:
        with mine.database.snapshot() as session:
            unit = next(one for one in work.of(session, job.id, "sweep") if Place.of(one.payload) == place)
            path = mine.blobs.path(session, unit.result_blob or "")
        mine.at_hand.update(swept_at=place, swept=Sweeps(path, job.names.measured, job.device))
    swept: Sweeps = mine.at_hand["swept"]
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
