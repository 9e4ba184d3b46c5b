"""The unit that makes an export: all rows in a file, the same bytes in every attempt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from app.store import exports
from app.store.blobs import digest
from app.store.tables import Export, Work
from worker.exporting import scores, selections
from worker.exporting.lines import write_csv, write_jsonl
from worker.exporting.npz import write_npz
from worker.exporting.parquet import write_parquet
from worker.exporting.table import Table
from worker.lease import Renewal
from worker.process import Process
from worker.quotas import refuse_bytes

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
    table = _table(mine, wanted)
    with mine.blobs.stage() as staged:
        for rows in WRITERS[wanted.format](table, staged):
            renewal.tick(rows)
        sha256 = digest(staged)
        with staged.open("rb") as file:
            os.fsync(file.fileno())  # here, since others wait for the transaction below
        renewal.tick()
        ahead = mine.blobs.ahead(staged, known={staged: sha256})
        with ahead, mine.database.transaction() as session:
            size = staged.stat().st_size
            refuse_bytes(session, mine.settings, wanted.project_id, {sha256: size})
            hours = mine.settings.export_hours
            exports.finish(session, mine.blobs, renewal.lease, row.subject, staged, sha256, hours)


def _table(mine: Process, wanted: Export) -> Table:
    if wanted.selection_id is not None:
        return selections.table_of(mine.database, mine.blobs, wanted.selection_id)
    return scores.table_of(mine.database, mine.blobs, wanted.job_id, wanted.ordered_by)
