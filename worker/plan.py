"""The first unit of an influence job: how large its chunks and blocks are, and which units it falls into."""

from __future__ import annotations

import time

import torch
from sqlalchemy.orm import Session

from app.store import jobs, work
from app.store.tables import Work
from worker import job as influence_job
from worker.chunks import beside, chunk_of, vectors_bytes
from worker.influence.memory import out_of_memory, over_chunks
from worker.influence.task import whole
from worker.job import InfluenceJob, Place, finished
from worker.lease import Renewal
from worker.problems import TOO_LARGE, UserError
from worker.process import Process
from worker.score import checked

MOST_BLOCKS = 5_000  # of one job: more would cost the database more than they save


def plan(mine: Process, row: Work, renewal: Renewal) -> None:
    """Measures one chunk, then lays out the job's sweeps, blocks and reduction."""
    job = influence_job.load(mine, row.subject)
    places = list(job.places())
    sizes, seconds = measure(mine, job, renewal)
    chunk = sizes["chunk"]
    size = _block_size(mine, len(job.train), len(places), chunk, seconds * max(map(job.per_sample, places)))
    total = job.asked.repeats * sum(job.asked.cost(extent) for extent in job.extents)
    with mine.database.transaction() as session:
        record = finished(session, mine, job.id, renewal.lease)
        if record is None:
            return
        jobs.set_plan(record, sizes | {"block": size}, total)
        for place in reversed(places):
            _lay_out(session, job, record.project_id, place, size)
        work.add(session, "reduce", job.id, record.project_id, waits_for="block")
        jobs.stage_done(session, mine.blobs, record, "plan")


def _lay_out(session: Session, job: InfluenceJob, project_id: str, place: Place, size: int) -> None:
    """The units of one place: the sweep, where the method has one, and blocks of `size` samples."""
    ready = "plan"
    if job.method.sweep is not None:
        first = not job.method.chained or place.k == len(job.runs[place.run].checkpoints) - 1
        work.add(
            session,
            "sweep",
            job.id,
            project_id,
            stage=place.stage,
            waits_for="plan" if first else place._replace(k=place.k + 1).stage,
            payload=place._asdict(),
            total=job.shared(place),
        )
        ready = place.stage
    for start in range(0, len(job.train), size):
        stop = min(start + size, len(job.train))
        work.add(
            session,
            "block",
            job.id,
            project_id,
            waits_for=ready,
            payload=place._asdict() | {"start": start, "stop": stop},
            total=job.per_sample(place) * (stop - start),
        )


def measure(mine: Process, job: InfluenceJob, renewal: Renewal) -> tuple[dict[str, int], float]:
    """({chunk: samples in one, sweep_chunk: of a sweep}, seconds of a forward pass of one sample).

    Raises:
        UserError: the network refuses the samples, or what the job holds takes more memory than there may be.
    """
    data, checkpoint = job.train_data(renewal.tick), job.runs[-1].checkpoints[-1]
    inputs, _ = next(data.chunks(1, range(1)))
    taken = beside(mine, job)
    try:
        chunk = chunk_of(mine, job, data, beside=vectors_bytes(mine, job))
        sizes = {"chunk": chunk, "sweep_chunk": chunk_of(mine, job, data, beside=taken) if taken else chunk}
    except MemoryError:
        raise UserError("out_of_memory", TOO_LARGE) from None
    except (RuntimeError, ValueError, IndexError) as problem:
        if out_of_memory(problem):
            raise UserError("out_of_memory", TOO_LARGE) from None
        raise UserError(
            "shape_mismatch",
            f"The network refuses the training samples (input shape {tuple(inputs.shape[1:])}): {problem}."
            " Check the architecture's config against the data set's input shape.",
        ) from problem

    def timed(inputs: torch.Tensor, targets: torch.Tensor) -> float:
        times = []
        for _ in range(2):  # the first pays for warming up
            started = time.monotonic()
            job.task.losses(checkpoint.params, checkpoint.buffers, inputs, targets)
            times.append(time.monotonic() - started)
        return min(times) / len(inputs)

    few = range(whole(min(chunk, len(data)), job.task.group))
    return sizes, checked(lambda: next(over_chunks(timed, data, chunk, few, job.task.group)))


def _block_size(mine: Process, n: int, places: int, chunk: int, seconds_per_sample: float) -> int:
    """Samples in a block: whole chunks, so that where blocks begin changes no bit of a score."""
    wanted = mine.settings.block_seconds / max(seconds_per_sample, 1e-9)
    fewest = n * places / MOST_BLOCKS
    return chunk * max(1, round(max(wanted, fewest) / chunk), -(-int(fewest) // chunk))
