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
from worker.job import InfluenceJob, locked
from worker.lease import Renewal
from worker.problems import TOO_LARGE, UserError
from worker.process import Process
from worker.vectors import load_sweep, save_block, save_sweep


def sweep(mine: Process, row: Work, renewal: Renewal) -> None:
    """Computes the vectors that all samples share at one checkpoint, from those of the one after it."""
    job, k = influence_job.load(mine, row.subject), row.payload["k"]
    compute = job.method.sweep
    assert compute is not None  # noqa: S101  (else none was planned)
    carry = _swept(mine, job, k + 1)[1] if job.method.chained and k + 1 < len(job.schedule.steps) else None
    started = time.monotonic()
    swept: Sweep = _checked(
        lambda: compute(
            job.task,
            job.trajectory,
            k,
            job.train_data(renewal.tick),
            job.query_data(renewal.tick),
            carry,
            seed=job.seed,
            chunk=_plan(mine, job)["chunk"],
            options=job.options,
        )
    )
    result = {"k": k, "notes": swept.notes, "seconds": time.monotonic() - started}
    _deliver(mine, row, renewal, result, partial(save_sweep, swept))


def block(mine: Process, row: Work, renewal: Renewal) -> None:
    """Scores a range of samples at one checkpoint."""
    job, k = influence_job.load(mine, row.subject), row.payload["k"]
    vectors = _swept(mine, job, k)[0] if job.method.sweep is not None else {}
    per_sample = job.cost.per_sample(len(job.train), job.batch_size)
    data = job.train_data(lambda samples: renewal.tick(samples * per_sample))
    started = time.monotonic()

    def score(rows: Sequence[int]) -> Chunk:
        inputs, targets = next(data.chunks(len(rows), rows))
        try:
            return job.method.score_chunk(
                job.task, job.trajectory, k, vectors, inputs, targets, rows, options=job.options
            )
        except NonFiniteError as bad:
            raise bad.shifted(rows[0]) from None

    rows = range(row.payload["start"], row.payload["stop"])
    chunks = _checked(lambda: list(halving(score, rows, _plan(mine, job)["chunk"])))
    result = {"seconds": time.monotonic() - started}
    _deliver(mine, row, renewal, result, partial(save_block, chunks))


def _deliver(
    mine: Process, row: Work, renewal: Renewal, result: dict[str, Any], write: Callable[[Path], None]
) -> None:
    """Keeps what `write` puts into a file as the unit's result, and queues what waited for it."""
    with mine.blobs.stage() as staged:
        write(staged)
        with mine.database.transaction() as session:
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


def _swept(mine: Process, job: InfluenceJob, k: int) -> Any:
    """(vectors, carry) of the sweep at checkpoint k; the last one used is kept at hand."""
    if mine.at_hand.get("swept_k") != k:
        with mine.database.snapshot() as session:
            unit = next(unit for unit in work.of(session, job.id, "sweep") if unit.payload["k"] == k)
            path = mine.blobs.path(session, unit.result_blob or "")
        mine.at_hand.update(swept_k=k, swept=load_sweep(path, job.parameters, job.device))
    return mine.at_hand["swept"]


def _checked(compute: Callable[[], Any]) -> Any:
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
