"""A selection as index lists, in the forms that loaders and trackers of data take."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from typing import Any, Literal

import numpy as np

from app.store import chosen
from app.store.chosen import Rows
from app.store.rows import Rows as Ids
from app.store.scored import label_of
from app.store.spreadsheets import harmless
from app.store.tables import Job, Selection

Format = Literal["json", "csv", "dvc"]
MEDIA_TYPES: dict[Format, str] = {"json": "application/json", "csv": "text/csv", "dvc": "application/yaml"}


def lists(selection: Selection, job: Job, rows: Rows, ids: Ids | None) -> dict[str, Any]:
    """{keep, remove, relabel} with what they are of, and the samples' own ids where they have some."""
    keep, remove, relabel = chosen.parts(rows, selection.num_samples)
    pairs = zip(relabel["sample_index"].tolist(), relabel["suggested_label"].tolist(), strict=True)
    names = np.asarray(ids) if ids is not None else None
    return {
        "selection_id": selection.id,
        "job_id": job.id,
        "train_dataset_id": job.train_dataset_id,
        "type": selection.type,
        "num_samples": selection.num_samples,
        "keep": keep.tolist(),
        "remove": remove.tolist(),
        "relabel": [
            {
                "sample_index": index,
                "sample_id": None if names is None else str(names[index]),
                "label": label_of(label),
            }
            for index, label in pairs
        ],
        "keep_ids": None if names is None else names[keep].astype(str).tolist(),
        "remove_ids": None if names is None else names[remove].astype(str).tolist(),
    }


def written(selection: Selection, job: Job, rows: Rows, ids: Ids | None, form: Format) -> bytes:
    """The manifest in this form, the same bytes each time.

    `csv`: one row a training sample, by index: sample_index, action, label (of those to relabel), and
    sample_id where the data set has ids. `dvc`: the `.dvc` file that makes DVC track that CSV as
    `<selection id>.csv`.
    """
    if form == "json":
        return json.dumps(lists(selection, job, rows, ids)).encode()
    table = _csv(selection.num_samples, rows, ids)
    return table if form == "csv" else _dvc(f"{selection.id}.csv", table)


def _csv(num_samples: int, rows: Rows, ids: Ids | None) -> bytes:
    _, remove, relabel = chosen.parts(rows, num_samples)
    actions = np.full(num_samples, "keep", dtype=object)
    labels = np.full(num_samples, "", dtype=object)
    actions[remove] = "remove"
    actions[relabel["sample_index"]] = "relabel"
    labels[relabel["sample_index"]] = [str(label_of(one)) for one in relabel["suggested_label"].tolist()]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = [] if ids is None else [[harmless(str(one)) for one in np.asarray(ids).tolist()]]
    writer.writerow(["sample_index", "action", "label", *(["sample_id"] if names else [])])
    writer.writerows(zip(range(num_samples), actions, labels, *names, strict=True))
    return table.getvalue().encode()


def _dvc(name: str, table: bytes) -> bytes:
    digest = hashlib.md5(table, usedforsecurity=False).hexdigest()  # what DVC knows files by
    return f"outs:\n- md5: {digest}\n  size: {len(table)}\n  hash: md5\n  path: {name}\n".encode()
