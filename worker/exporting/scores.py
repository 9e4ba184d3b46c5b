"""The table of a job's scores: the rows of `GET /v1/jobs/{id}/scores`, and the influences by query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.store import influences, orders, scored, scores
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.rows import Rows
from app.store.tables import Job
from worker.exporting.table import WIDE, Batch, Column, Kind, Table

ROWS = 10_000
WIDE_BYTES = 16 * 1024**2  # of influences in a batch
KINDS: dict[str, Kind] = {
    "sample_index": "index",
    "sample_id": "text",
    "score": "number",
    "rank": "index",
    "percentile": "number",
    "standard_error": "number",
    "self_influence": "number",
    "suspicion": "number",
    "label": "whole",
    "label_name": "text",
    "predicted_label": "whole",
    "predicted_label_name": "text",
    "loss": "number",
    "agrees": "flag",
}
"""What the columns of a row hold; labels are numbers where they are no classes."""


def table_of(database: Database, blobs: BlobStore, job_id: str, order: str) -> Table:
    """All rows of the job in this order. Raises NoResultFound when the job is gone."""
    with database.snapshot() as session:
        job = session.get_one(Job, job_id)
        told = scored.of(session, job)
        fractions = {
            name
            for name in ("label", "predicted_label")
            if told.regression or not scores.whole(session, job_id, name)
        }
        matrix = asked = None
        if job.influences_blob is not None:
            matrix = Rows(blobs.path(session, job.influences_blob))
            asked = influences.queries(blobs.path(session, job.ranked_blob or ""))
    columns = tuple(Column(name, "number" if name in fractions else kind) for name, kind in KINDS.items())
    size = ROWS if matrix is None else max(1, min(ROWS, WIDE_BYTES // (4 * matrix.shape[1])))

    def batches() -> Iterator[Batch]:
        with database.snapshot() as session:
            for stored in orders.every(session, job_id, order, size):
                rows = [scored.row(one, told) for one in stored]
                where: Any = [row["sample_index"] for row in rows]
                yield Batch(rows, None if matrix is None else matrix[where])

    about = {"job_id": job_id, "order": order}
    about |= {} if asked is None else {f"{WIDE}.query_index": str(asked.tolist())}
    return Table(columns, batches, told.num_samples, asked, about)
