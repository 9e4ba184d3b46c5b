"""The units of an influence job: plan, sweep the checkpoints, score blocks of samples, reduce."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from app.store import jobs, scores, work
from app.store.tables import Job, Work
from worker import job as influence_job
from worker.influence.errors import NonFiniteError, SampleTooLargeError
from worker.influence.memory import chunk_size, halving
from worker.influence.methods import Chunk, Sweep
from worker.job import InfluenceJob
from worker.lease import Renewal
from worker.problems import UserError
from worker.process import Process
from worker.report import warnings
from worker.vectors import block_columns, load_sweep, save_sweep

MOST_BLOCKS = 5_000  # of one job: more would cost the database more than they save


def plan(mine: Process, row: Work, renewal: Renewal) -> None:
    """Measures one chunk, then lays out the job's sweeps, blocks and reduction."""
    job = influence_job.load(mine, row.subject)
    m, n, queries = len(job.schedule.steps), len(job.train), len(job.query_data(renewal.tick) or ())
    per_sample = job.cost.per_sample(n, job.batch_size)
    chunk, seconds = _measure(mine, job, renewal)
    size = _block_size(mine, n, m, chunk, seconds * per_sample)
    with mine.database.transaction() as session:
        record = _locked(session, job.id)
        work.finish(session, renewal.lease)
        jobs.set_plan(record, {"chunk": chunk, "block": size}, job.cost.cost(n, queries, m, job.batch_size))
        for k in reversed(range(m)):
            ready = "plan"
            if job.method.sweep is not None:
                first = k == m - 1 or not job.method.chained
                work.add(
                    session,
                    "sweep",
                    job.id,
                    stage=f"sweep:{k}",
                    waits_for="plan" if first else f"sweep:{k + 1}",
                    payload={"k": k},
                    total=job.cost.shared(n, queries, job.batch_size, last=k == m - 1),
                )
                ready = f"sweep:{k}"
            for start in range(0, n, size):
                stop = min(start + size, n)
                work.add(
                    session,
                    "block",
                    job.id,
                    waits_for=ready,
                    payload={"k": k, "start": start, "stop": stop},
                    total=per_sample * (stop - start),
                )
        work.add(session, "reduce", job.id, waits_for="block")
        jobs.stage_done(session, record, "plan")


def sweep(mine: Process, row: Work, renewal: Renewal) -> None:
    """Computes the vectors that all samples share at one checkpoint, from those of the one after it."""
    job, k = influence_job.load(mine, row.subject), row.payload["k"]
    compute = job.method.sweep
    assert compute is not None  # noqa: S101  (else none was planned)
    carry = _swept(mine, job, k + 1)[1] if job.method.chained and k + 1 < len(job.schedule.steps) else None
    started = time.monotonic()
    swept: Sweep = _finite(
        lambda: compute(
            job.task,
            job.checkpoint(k),
            k,
            job.schedule,
            job.train_data(renewal.tick),
            job.query_data(renewal.tick),
            carry,
            seed=job.seed,
            chunk=_plan(mine, job)["chunk"],
            options=job.options,
        )
    )
    result = {"k": k, "notes": swept.notes, "seconds": time.monotonic() - started}
    with mine.blobs.stage() as staged:
        save_sweep(swept, staged)
        with mine.database.transaction() as session:
            record = _locked(session, job.id)
            blob = mine.blobs.keep(session, staged)
            work.finish(session, renewal.lease, result=result, result_blob=blob)
            jobs.stage_done(session, record, row.stage)


def block(mine: Process, row: Work, renewal: Renewal) -> None:
    """Scores a range of samples at one checkpoint."""
    job, k = influence_job.load(mine, row.subject), row.payload["k"]
    vectors = _swept(mine, job, k)[0] if job.method.sweep is not None else {}
    checkpoint, per_sample = job.checkpoint(k), job.cost.per_sample(len(job.train), job.batch_size)
    data = job.train_data(lambda samples: renewal.tick(samples * per_sample))
    started = time.monotonic()

    def score(rows: Sequence[int]) -> Chunk:
        inputs, targets = next(data.chunks(len(rows), rows))
        try:
            return job.method.score_chunk(
                job.task, checkpoint, k, job.schedule, vectors, inputs, targets, options=job.options
            )
        except NonFiniteError as bad:
            raise bad.shifted(rows[0]) from None

    rows = range(row.payload["start"], row.payload["stop"])
    chunks = _finite(lambda: list(halving(score, rows, _plan(mine, job)["chunk"])))
    result = {"seconds": time.monotonic() - started}
    with mine.blobs.stage() as staged:
        with staged.open("wb") as file:
            np.save(file, block_columns(chunks))
        with mine.database.transaction() as session:
            record = _locked(session, job.id)
            blob = mine.blobs.keep(session, staged)
            work.finish(session, renewal.lease, result=result, result_blob=blob)
            jobs.stage_done(session, record, row.stage)


def reduce(mine: Process, row: Work, renewal: Renewal) -> None:
    """Adds up all blocks in a fixed order; scores, state and the last event are one transaction."""
    job = influence_job.load(mine, row.subject)
    with mine.database.snapshot() as session:
        units = work.of(session, job.id, "sweep", "block")
        files = {unit.id: mine.blobs.path(session, unit.result_blob or "") for unit in units}
    m, n = len(job.schedule.steps), len(job.train)
    columns = {name: np.empty((m, n)) for name in ("contribution", "loss")}
    predictions, self_influence = np.empty(n), np.zeros(n)
    for unit in sorted(
        (unit for unit in units if unit.kind == "block"), key=lambda u: (u.payload["k"], u.payload["start"])
    ):
        k, rows = unit.payload["k"], slice(unit.payload["start"], unit.payload["stop"])
        values = np.load(files[unit.id], mmap_mode="r")
        for name, column in columns.items():
            column[k, rows] = values[name]
        self_influence[rows] += values["self_influence"]
        if k == m - 1:
            predictions[rows] = values["prediction"]
        renewal.tick()
    total = _total(job, columns["contribution"])
    has_self = bool(np.isfinite(self_influence).all())
    result = _result(mine, job, units, has_self)
    with mine.database.transaction() as session:
        record = _locked(session, job.id)
        work.finish(session, renewal.lease)
        scores.write(
            session,
            job.id,
            {
                "sample_index": np.arange(n),
                "sample_id": job.train.ids,
                "score": total,
                "rank": scores.ranks(total),
                "self_influence": self_influence if has_self else None,
                "label": _labels(job),
                "predicted_label": predictions,
                "loss": columns["loss"][-1],
                "contributions": columns["contribution"].T,
                "losses": columns["loss"].T,
            },
        )
        result["timing"] |= {"seconds": jobs.seconds_running(record), "forward_passes": record.total}
        jobs.succeed(session, mine.blobs, record, result)


SCORERS: dict[str, Callable[[Process, Work, Renewal], None]] = {
    "plan": plan,
    "sweep": sweep,
    "block": block,
    "reduce": reduce,
}


def _locked(session: Any, job_id: str) -> Job:
    record = jobs.locked(session, job_id)
    if record is None:
        raise work.LeaseLostError(job_id)
    return record


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


def _measure(mine: Process, job: InfluenceJob, renewal: Renewal) -> tuple[int, float]:
    """(samples in a chunk, seconds of a forward pass of one sample)."""
    data, checkpoint = job.train_data(renewal.tick), job.checkpoint(len(job.schedule.steps) - 1)
    inputs, targets = next(data.chunks(1, range(1)))
    try:
        chunk = chunk_size(job.task, checkpoint, inputs, targets, budget_bytes=mine.settings.memory_bytes)
    except (RuntimeError, ValueError, IndexError) as problem:
        raise UserError(
            "shape_mismatch",
            f"The network refuses the training samples (input shape {tuple(inputs.shape[1:])}): {problem}."
            " Check the architecture's config against the data set's input shape.",
        ) from problem
    inputs, targets = next(data.chunks(chunk, range(min(chunk, len(data)))))
    times = []
    for _ in range(2):  # the first pays for warming up
        started = time.monotonic()
        job.task.losses(checkpoint.params, checkpoint.buffers, inputs, targets)
        times.append(time.monotonic() - started)
    return chunk, min(times) / len(inputs)


def _block_size(mine: Process, n: int, m: int, chunk: int, seconds_per_sample: float) -> int:
    """Samples in a block: whole chunks, so that where blocks begin changes no bit of a score."""
    wanted = mine.settings.block_seconds / max(seconds_per_sample, 1e-9)
    fewest = n * m / MOST_BLOCKS
    return chunk * max(1, round(max(wanted, fewest) / chunk), -(-int(fewest) // chunk))


def _total(job: InfluenceJob, contributions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(job.method.reduce(torch.from_numpy(contributions)))


def _labels(job: InfluenceJob) -> Any:
    targets = np.asarray(job.train.targets)
    return targets if targets.ndim == 1 else None


def _result(mine: Process, job: InfluenceJob, units: Any, has_self: bool) -> dict[str, Any]:
    notes = [unit.result["notes"] | {"k": unit.result["k"]} for unit in units if unit.kind == "sweep"]
    return {
        "num_samples": len(job.train),
        "answers": "expected",
        "self_influence": has_self,
        "warnings": warnings(job, notes),
        "checkpoints": sorted(notes, key=lambda note: note["k"]),
        "timing": {"device": str(job.device), "busy_seconds": sum(unit.result["seconds"] for unit in units)},
    }


def _finite(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except NonFiniteError as bad:
        raise UserError(
            "non_finite",
            f"{bad}. Look for NaN or exploded values in that checkpoint, or leave it out of the trajectory.",
        ) from bad
    except SampleTooLargeError as too_large:
        raise UserError("out_of_memory", f"{too_large}.") from too_large
