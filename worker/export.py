"""The unit that makes an export: all rows of a job's scores in a file, the same bytes in every attempt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from app.store import exports
from app.store.blobs import digest
from app.store.tables import Work
from worker.exporting.lines import write_csv, write_jsonl
from worker.exporting.npz import write_npz
from worker.exporting.parquet import write_parquet
from worker.exporting.scores import table_of
from worker.exporting.table import Table
from worker.lease import Renewal
from worker.process import Process

WRITERS: dict[str, Callable[[Table, Path], Iterator[int]]] = {
    "parquet": write_parquet,
    "csv": write_csv,
    "jsonl": write_jsonl,
    "npz": write_npz,
}


def export(mine: Process, row: Work, renewal: Renewal) -> None:
    """Writes the file a batch of rows at a time, and keeps it."""
    with mine.database.transaction() as session:
        wanted = exports.start(session, renewal.lease, row.subject, mine.settings.lease_seconds)
        job_id, kind, order = wanted.job_id, wanted.format, wanted.ordered_by
    table = table_of(mine.database, mine.blobs, job_id, order)
    with mine.blobs.stage() as staged:
        for rows in WRITERS[kind](table, staged):
            renewal.tick(rows)
        sha256 = digest(staged)
        with staged.open("rb") as file:
            os.fsync(file.fileno())  # here, since others wait for the transaction below
        renewal.tick()
        with mine.database.transaction() as session:
            hours = mine.settings.export_hours
            exports.finish(session, mine.blobs, renewal.lease, row.subject, staged, sha256, hours)
