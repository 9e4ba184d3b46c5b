"""The unit that updates a checkpoint: what weights a run would have ended with, without some samples."""

from __future__ import annotations

from app.store import selections, work
from app.store.tables import Work
from worker import selection
from worker.chunks import beside, chunk_of
from worker.effects import of_deletion
from worker.influence.errors import NonFiniteError
from worker.influence.selection.deletion import influence_on_parameters
from worker.influence.vectors import combine, norm
from worker.lease import Renewal
from worker.problems import UserError
from worker.process import Process
from worker.training import write_tensors


def update(mine: Process, row: Work, renewal: Renewal) -> None:
    """θ_T + I_T, kept as a checkpoint, and how it does beside θ_T."""
    asked = selection.load(mine, row.subject)
    removed = selection.rows_of(mine, asked)["sample_index"].tolist()
    job = selection.updating(mine, asked)
    [run] = job.runs
    data = job.train_data(lambda samples: renewal.tick())
    query = job.query_data(lambda samples: renewal.tick())
    assert query is not None  # noqa: S101  (scores that are changes of the query loss have one)
    last = run.checkpoints[-1]
    try:
        moved = influence_on_parameters(
            job.task,
            run,
            data,
            removed,
            seed=job.seed,
            chunk=chunk_of(mine, job, data, beside=beside(mine, job)),
            options=job.options_at(selection.PLACE),
            tick=lambda done: renewal.tick(),
        )
    except (NonFiniteError, ArithmeticError) as bad:
        raise UserError(
            "non_finite",
            f"{bad}. The run is too unstable for its weights to be updated by influence: ask the deletion "
            "with checkpoint: false, or train with a lower learning rate.",
        ) from bad
    updated = combine(last.params, 1.0, moved.params)
    memory = mine.settings.memory_bytes
    told = {
        "effects": {
            name: of_deletion(job.task, data, removed, query, params, last.buffers, memory)
            for name, params in (("original", last.params), ("updated", updated))
        },
        "exact_steps": moved.exact_steps,
        "moved": float(norm(moved.params)),
    }
    tensors = {**updated, **last.buffers}
    trained = {name: tensors.pop(name) for name in job.names.trained}
    with mine.blobs.stage() as staged:
        write_tensors(trained, tensors, staged)
        with mine.blobs.ahead(staged), mine.database.transaction() as session:
            record = selection.locked(session, asked.id)
            selections.keep(session, mine.blobs, record, selections.CHECKPOINT, staged)
            work.finish(session, renewal.lease, result=told)
            work.release(session, asked.id, row.stage)
