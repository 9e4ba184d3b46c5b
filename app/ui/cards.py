"""Samples as cards: what each looks like, its labels in words, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from app.api.samples import CHANNELS
from app.store import scored as scored_rows
from app.store import scores
from app.store.blobs import BlobStore
from app.store.datasets import Arrays, name_of
from app.store.scored import Scored, label_of
from app.store.tables import Dataset

MOST_TEXT, MOST_FIELDS, MOST_VALUES = 2000, 12, 8


class Looks(NamedTuple):
    """How a sample is shown: a picture by its address, a text, a table's row, or a few of its numbers."""

    kind: Literal["image", "text", "row", "values"]
    src: str | None
    text: str | None
    fields: list[tuple[str, Any]]
    more: int  # characters, fields or numbers left out


@dataclass(frozen=True)
class Card:
    """One sample of a job."""

    row: dict[str, Any]
    given: str
    predicted: str
    looks: Looks

    @property
    def index(self) -> int:
        return int(self.row["sample_index"])

    @property
    def title(self) -> str:
        """What a sample is called: its id, where it has one."""
        return self.row["sample_id"] or f"sample {self.index}"

    @property
    def place(self) -> str:
        """Where it stands in its data set: its index, and its id where it has one."""
        return f"index {self.index}" + (f", id {one}" if (one := self.row["sample_id"]) else "")


def cards(
    session: Session, blobs: BlobStore, scored: Scored, indices: Sequence[int], *, whole: bool = False
) -> list[Card]:
    """The cards of these samples of the job's training set, in this order; shortened, or `whole`."""
    dataset = session.get_one(Dataset, scored.job.train_dataset_id)
    rows: Mapping[int, Any] = scores.some(session, scored.job.id, indices)
    arrays = Arrays(session, blobs, dataset)
    found = []
    for index in indices:
        row = scored_rows.row(rows[index], scored)
        given, predicted = label_text(scored, row["label"]), label_text(scored, row["predicted_label"])
        found.append(Card(row, given, predicted, looks(dataset, arrays, index, whole=whole)))
    return found


def label_text(scored: Scored, label: float | None) -> str:
    """A label in words: its name, or its number."""
    return name_of(scored.classes, label) or class_text(label)


def class_text(label: float | None) -> str:
    value = label_of(None if label is None else float(label))
    return "\N{EN DASH}" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def looks(dataset: Dataset, arrays: Arrays, index: int, *, whole: bool = False) -> Looks:
    """How a sample is shown: shortened, or whole."""
    if is_picture(dataset):
        src = f"/datasets/{dataset.id}/pictures/{index}?v={(dataset.inputs_blob or '')[:12]}"
        return Looks("image", src, None, [], 0)
    sample = arrays.sample(index)
    if sample["text"] is not None:
        text, most = sample["text"], 10**6 if whole else MOST_TEXT
        return Looks("text", None, text[:most], [], max(0, len(text) - most))
    if sample["row"] is not None:
        fields, most = list(sample["row"].items()), 10**4 if whole else MOST_FIELDS
        return Looks("row", None, None, fields[:most], max(0, len(fields) - most))
    values, most = np.asarray(arrays.inputs[index]).ravel(), 256 if whole else MOST_VALUES
    numbered = [(str(at), value.item()) for at, value in enumerate(values[:most])]
    return Looks("values", None, None, numbered, max(0, values.size - most))


def is_picture(dataset: Dataset) -> bool:
    """Whether its samples are images of 1, 3 or 4 channels."""
    told = (dataset.info or {}).get("input") or {}
    shape = told.get("shape") or []
    last, first = (shape[-1], shape[0]) if len(shape) == 3 else (1, 1)
    return told.get("kind") == "image" and (last in CHANNELS or first in CHANNELS)
