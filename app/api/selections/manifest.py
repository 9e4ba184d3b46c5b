"""A selection as index lists, in the forms that loaders and trackers of data take."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import numpy as np

from app.store import chosen
from app.store.chosen import Rows
from app.store.scored import label_of
from app.store.tables import Job, Selection

Format = Literal["json", "csv", "dvc"]
MEDIA_TYPES: dict[Format, str] = {"json": "application/json", "csv": "text/csv", "dvc": "application/yaml"}


def lists(selection: Selection, job: Job, rows: Rows) -> dict[str, Any]:
    """{keep, remove, relabel} with what they are of."""
    keep, remove, relabel = chosen.parts(rows, selection.num_samples)
    pairs = zip(relabel["sample_index"].tolist(), relabel["suggested_label"].tolist(), strict=True)
    return {
        "selection_id": selection.id,
        "job_id": job.id,
        "train_dataset_id": job.train_dataset_id,
        "type": selection.type,
        "num_samples": selection.num_samples,
        "keep": keep.tolist(),
        "remove": remove.tolist(),
        "relabel": [{"sample_index": index, "label": label_of(label)} for index, label in pairs],
    }


def written(selection: Selection, job: Job, rows: Rows, form: Format) -> bytes:
    """The manifest in this form, the same bytes each time.

    `csv`: one row a training sample, by index: sample_index, action, label (of those to relabel). `dvc`: the
    `.dvc` file that makes DVC track that CSV as `<selection id>.csv`.
    """
    if form == "json":
        return json.dumps(lists(selection, job, rows)).encode()
    table = _csv(selection.num_samples, rows)
    return table if form == "csv" else _dvc(f"{selection.id}.csv", table)


def _csv(num_samples: int, rows: Rows) -> bytes:
    _, remove, relabel = chosen.parts(rows, num_samples)
    actions = np.full(num_samples, "keep", dtype=object)
    labels = np.full(num_samples, "", dtype=object)
    actions[remove] = "remove"
    actions[relabel["sample_index"]] = "relabel"
    labels[relabel["sample_index"]] = [str(label_of(one)) for one in relabel["suggested_label"].tolist()]
    lines = (f"{index},{actions[index]},{labels[index]}" for index in range(num_samples))
    return "\n".join(["sample_index,action,label", *lines, ""]).encode()


def _dvc(name: str, table: bytes) -> bytes:
    digest = hashlib.md5(table, usedforsecurity=False).hexdigest()  # what DVC knows files by
    return f"outs:\n- md5: {digest}\n  size: {len(table)}\n  hash: md5\n  path: {name}\n".encode()
