"""Data sets: validating → ready | invalid, and their samples as a person looks at them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import fetching, webhooks, work
from app.store.blobs import BlobStore
from app.store.db import new_id
from app.store.fetching import Wanted
from app.store.rows import Rows
from app.store.shown import Shown
from app.store.tables import Dataset

BLOBS = ("source_blob", "inputs_blob", "targets_blob", "ids_blob", "shown_blob", "tokenizer_blob")


def create(
    session: Session, blob: str, *, wanted: Mapping[str, Wanted] | None = None, **values: Any
) -> Dataset:
    """A data set to be validated by a worker.

    Args:
        blob: its file; empty where that is among those `wanted`, which are fetched first.
    """
    dataset = Dataset(id=new_id("ds"), status="validating", source_blob=blob or None, sha256=blob, **values)
    session.add(dataset)
    session.flush()
    awaited = fetching.queue(session, dataset.id, dataset.project_id, wanted or {})
    work.add(session, "validate", dataset.id, dataset.project_id, waits_for=awaited)
    return dataset


def get(session: Session, project_id: str, dataset_id: str) -> Dataset | None:
    return session.scalar(select(Dataset).where(Dataset.id == dataset_id, Dataset.project_id == project_id))


def ready(
    session: Session, blobs: BlobStore, dataset: Dataset, info: dict[str, Any], arrays: Mapping[str, Path]
) -> None:
    """The worker accepted the file: keep its canonical arrays (`inputs`, `targets`, maybe `ids`)
    and what people look at (`shown`) only.
    """
    for name, path in arrays.items():
        setattr(dataset, f"{name}_blob", blobs.keep(session, path))
    dataset.num_samples, dataset.num_classes = info.pop("num_samples"), info.pop("num_classes")
    dataset.format = info.pop("format", dataset.format)
    dataset.status, dataset.info = "ready", info
    _end_validation(session, blobs, dataset)


def invalid(session: Session, blobs: BlobStore, dataset: Dataset, error: dict[str, Any]) -> None:
    """The worker refused the file: keep the reason, not the bytes."""
    dataset.status, dataset.error = "invalid", error
    _end_validation(session, blobs, dataset)


def _end_validation(session: Session, blobs: BlobStore, dataset: Dataset) -> None:
    told = {"id": dataset.id, "status": dataset.status}
    webhooks.emit(session, dataset.project_id, f"dataset.{dataset.status}", told)
    source, dataset.source_blob = dataset.source_blob, None
    blobs.forget(session, source)
    work.drop(session, dataset.id)


def delete(session: Session, blobs: BlobStore, dataset: Dataset) -> None:
    """Removes the data set and its bytes. The caller has checked that no job names it."""
    work.drop(session, dataset.id)
    session.refresh(dataset, with_for_update=True)  # a worker may just have named other blobs
    session.delete(dataset)
    blobs.forget(session, *(getattr(dataset, name) for name in BLOBS))


class Arrays:
    """The canonical arrays of a ready data set: reading a row reads a row.

    Attributes:
        shown: the samples as people look at them, where the arrays do not tell: `shown_as` "text" or "row".
        classes: names of the labels.
    """

    def __init__(self, session: Session, blobs: BlobStore, dataset: Dataset) -> None:
        assert dataset.inputs_blob and dataset.targets_blob  # noqa: S101  (a ready data set has both)
        self.inputs = Rows(blobs.path(session, dataset.inputs_blob))
        self.targets = Rows(blobs.path(session, dataset.targets_blob))
        self.ids = Rows(blobs.path(session, dataset.ids_blob)) if dataset.ids_blob else None
        shown = blobs.path(session, dataset.shown_blob) if dataset.shown_blob else None
        self.shown = Shown(shown, len(self.inputs)) if shown else None
        encoding = dataset.info.get("encoding") or {}
        self.shown_as: str | None = encoding.get("shown")
        self.classes: list[str] | None = encoding.get("classes")

    def __len__(self) -> int:
        return len(self.inputs)

    def numbers(self, labels: Sequence[int | str]) -> list[int]:
        """The labels by number, where some are told by name. Raises ValueError for a name of none."""
        known = {name: number for number, name in enumerate(self.classes or ())}
        if unknown := [one for one in labels if isinstance(one, str) and one not in known]:
            raise ValueError(f"no label is called {unknown[0]!r}")
        return [known[one] if isinstance(one, str) else one for one in labels]

    def sample(self, index: int) -> dict[str, Any]:
        """One sample's row: index, id, target, and what it is, where that is short enough to read."""
        target, value = np.asarray(self.targets[index]), np.asarray(self.inputs[index])
        text = self.shown[index] if self.shown else None
        return {
            "index": index,
            "sample_id": None if self.ids is None else str(self.ids[index]),
            "target": target.item() if target.ndim == 0 else target.tolist(),
            "label_name": name_of(self.classes, target.item() if target.ndim == 0 else None),
            "values": value.tolist() if value.ndim < 2 and value.size <= 1024 else None,
            "text": text if self.shown_as == "text" else None,
            "row": json.loads(text) if text is not None and self.shown_as == "row" else None,
        }


def json_row(arrays: Arrays, index: int) -> bytes:
    """The content of a sample that is no picture and no text: its row, or its numbers."""
    if arrays.shown is not None:
        return arrays.shown[index].encode()
    return json.dumps(np.asarray(arrays.inputs[index]).tolist()).encode()


def name_of(classes: Sequence[str] | None, label: float | None) -> str | None:
    """The name of a label, where labels have names."""
    if classes is None or label is None or not 0 <= label < len(classes) or label != int(label):
        return None
    return classes[int(label)]
