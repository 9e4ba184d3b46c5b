"""The first unit of an influence job: how large its chunks and blocks are, and which units it falls into."""

from __future__ import annotations

import time

import torch

from app.store import jobs, work
from app.store.tables import Work
from worker import job as influence_job
from worker.influence.memory import chunk_size
from worker.job import InfluenceJob, locked
from worker.lease import Renewal
from worker.problems import TOO_LARGE, UserError
from worker.process import Process

MOST_BLOCKS = 5_000  # of one job: more would cost the database more than they save


def plan(mine: Process, row: Work, renewal: Renewal) -> None:
    """Measures one chunk, then lays out the job's sweeps, blocks and reduction."""
    job = influence_job.load(mine, row.subject)
    m, n, queries = len(job.schedule.steps), len(job.train), len(job.query_data(renewal.tick) or ())
    per_sample = job.cost.per_sample(n, job.batch_size)
    chunk, seconds = _measure(mine, job, renewal)
    size = _block_size(mine, n, m, chunk, seconds * per_sample)
    with mine.database.transaction() as session:
        record = locked(session, job.id)
        work.finish(session, renewal.lease)
        if record.status == "cancelling":
            jobs.settle_cancelled(session, mine.blobs, record)
            return
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
        jobs.stage_done(session, mine.blobs, record, "plan")


def _measure(mine: Process, job: InfluenceJob, renewal: Renewal) -> tuple[int, float]:
    """(samples in a chunk, seconds of a forward pass of one sample)."""
    data, checkpoint = job.train_data(renewal.tick), job.trajectory.checkpoints[-1]
    inputs, targets = next(data.chunks(1, range(1)))
    try:
        chunk = chunk_size(job.task, checkpoint, inputs, targets, budget_bytes=mine.settings.memory_bytes)
    except (torch.OutOfMemoryError, MemoryError):
        raise UserError("out_of_memory", TOO_LARGE) from None
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
