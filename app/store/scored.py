"""A sample's score as everybody is told of it: by the API page by page, in an export all at once."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from app.store.datasets import name_of
from app.store.tables import Dataset, Job, Trajectory

TASK = (
    select(Trajectory.task["type"], Dataset.info["encoding"]["classes"])
    .outerjoin(Dataset, Dataset.id == bindparam("dataset_id"))
    .where(Trajectory.id == bindparam("trajectory_id"))
)


class Scored(NamedTuple):
    """A job that has scores, its task's type, and the names of its classes."""

    job: Job
    num_samples: int
    task: str
    classes: list[str] | None

    @property
    def regression(self) -> bool:
        """Whether labels are numbers and no classes."""
        return self.task == "regression"

    @property
    def pairs(self) -> bool:
        """Whether there are no labels: a sample is an image and its caption."""
        return self.task == "contrastive"


def of(session: Session, job: Job) -> Scored:
    """What it takes to tell of the scores of an influence job that has succeeded."""
    of = {"trajectory_id": job.trajectory_ids[0], "dataset_id": job.train_dataset_id}
    task, classes = session.execute(TASK, of).one()
    named = classes if task != "regression" else None
    return Scored(job, int((job.result or {})["num_samples"]), task, named)


def row(stored: Any, scored: Scored) -> dict[str, Any]:
    """The fields of a sample's row, from its columns in the table of scores."""
    given, predicted = stored.label, stored.predicted_label
    return {
        "sample_index": stored.sample_index,
        "sample_id": stored.sample_id,
        "score": stored.score,
        "rank": stored.rank,
        "percentile": 100 * (1 - (stored.rank - 1) / scored.num_samples),
        "standard_error": stored.standard_error,
        "self_influence": stored.self_influence,
        "suspicion": stored.suspicion,
        "label": given if scored.regression else label_of(given),
        "label_name": name_of(scored.classes, given),
        "predicted_label": predicted if scored.regression else label_of(predicted),
        "predicted_label_name": name_of(scored.classes, predicted),
        "loss": stored.loss,
        "agrees": _agrees(float(stored.sample_index) if scored.pairs else given, predicted, scored),
    }


def label_of(value: float | None) -> int | float | None:
    """A class as the integer it is; soft binary targets are no integers."""
    return int(value) if value is not None and value.is_integer() else value


def _agrees(right: float | None, predicted: float | None, scored: Scored) -> bool | None:
    """Whether the prediction is the right one; None in regression, and with a soft binary target."""
    if right is None or predicted is None or not right.is_integer() or scored.regression:
        return None
    return right == predicted
