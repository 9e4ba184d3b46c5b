"""How many samples and queries an influence job takes at a time, beside what its options make it hold."""

from __future__ import annotations

from worker.influence.memory import chunk_size
from worker.influence.trajectory import Data
from worker.job import InfluenceJob, states_bytes
from worker.problems import UserError
from worker.process import Process

VECTORS = 4  # one part in so many of what a worker may use: the vectors of single queries


def chunk_of(mine: Process, job: InfluenceJob, data: Data, *, beside: int = 0) -> int:
    """Samples a chunk, where so many bytes of what a worker may use are taken."""
    inputs, targets = next(data.chunks(1, range(1)))
    budget = mine.settings.memory_bytes - beside
    return chunk_size(job.task, job.runs[-1].checkpoints[-1], inputs, targets, budget_bytes=budget)


def beside(mine: Process, job: InfluenceJob) -> int:
    """Bytes that the options make the work at a checkpoint hold beside a chunk.

    Raises:
        UserError: more than a worker may use.
    """
    shapes = [tuple(t.shape) for t in job.runs[-1].checkpoints[-1].params.values()]
    heaviest = max(job.asked.beside(extent, shapes) for extent in job.extents)
    if words := heaviest.too_heavy(mine.settings.memory_bytes):
        raise UserError("too_much_memory", words)
    replayed = any(run.order is not None for run in job.runs)
    return max(heaviest.bytes, states_bytes(mine) if replayed else 0)


def queries_at_a_time(mine: Process, job: InfluenceJob) -> int:
    """Queries, each with vectors of its own, that a block of samples is scored for at a time."""
    return max(1, mine.settings.memory_bytes // VECTORS // _vector_bytes(job))


def vectors_bytes(mine: Process, job: InfluenceJob) -> int:
    """Of the vectors of single queries that are held at a time, as far as a worker has room for them."""
    if not job.asked.by_query:
        return 0
    wanted = _vector_bytes(job) * min(len(job.queries), queries_at_a_time(mine, job))
    return min(wanted, mine.settings.memory_bytes // VECTORS)


def _vector_bytes(job: InfluenceJob) -> int:
    return sum(t.nbytes for t in job.runs[-1].checkpoints[-1].params.values())
