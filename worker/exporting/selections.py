"""The table of a selection: the rows of `GET /v1/selections/{id}/samples`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sqlalchemy.orm import Session

from app.store import chosen, scores, selections
from app.store.blobs import BlobStore
from app.store.chosen import Rows
from app.store.db import Database
from app.store.tables import Dataset, Job, Selection
from worker.exporting.table import Batch, Column, Kind, Table

ROWS = 5_000
KINDS: dict[str, Kind] = {
    "sample_index": "index",
    "sample_id": "text",
    "action": "text",
    "score": "number",
    "suspicion": "number",
    "label": "whole",
    "label_name": "text",
    "suggested_label": "whole",
    "suggested_label_name": "text",
    "confidence": "number",
    "loss": "number",
}


def table_of(database: Database, blobs: BlobStore, selection_id: str) -> Table:
    """All rows of the selection, as they were chosen. Raises NoResultFound when it is gone."""
    with database.snapshot() as session:
        selection = session.get_one(Selection, selection_id)
        job = session.get_one(Job, selection.job_id)
        kept = selections.path(session, blobs, selection_id, selections.ROWS)
        classes = _classes(session, job)
    if kept is None:
        raise FileNotFoundError(f"{selection_id} has no rows")
    rows = chosen.read(kept[0])
    columns = tuple(Column(name, _kind(rows, name, kind)) for name, kind in KINDS.items())

    def batches() -> Iterator[Batch]:
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            with database.snapshot() as session:
                ids = scores.ids_of(session, job.id, some["sample_index"].tolist())
            yield Batch([chosen.told(row, ids.get(int(row["sample_index"])), classes) for row in some])

    return Table(columns, batches, len(rows), None, {"selection_id": selection_id, "job_id": job.id})


def _kind(rows: Rows, name: str, kind: Kind) -> Kind:
    """Labels with fractions are numbers."""
    if kind != "whole":
        return kind
    values = rows[name][~np.isnan(rows[name])]
    return "whole" if bool((values == np.floor(values)).all()) else "number"


def _classes(session: Session, job: Job) -> list[str] | None:
    train = session.get(Dataset, job.train_dataset_id) if job.train_dataset_id else None
    return (train.info.get("encoding") or {}).get("classes") if train is not None else None
