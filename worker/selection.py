"""A selection as the worker makes it: what is asked, and the job whose scores it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.store import tables
from worker.influence.memory import chunk_size
from worker.influence.selection.labels import mean_probabilities, suggested, trained
from worker.influence.selection.noise import Estimate, most_wrong, windows
from worker.influence.trajectory import Data, draw_rows
from worker.job import InfluenceJob, scoring
from worker.lease import Renewal
from worker.problems import UserError
from worker.process import Process, at_hand

Floats = NDArray[np.float64]
ESTIMATED_ON = 20_000  # samples that tell the share of wrong labels to within a few tenths of a percent
IN_LOSS = ("diff_in", "tracin", "influence_function")  # whose scores are changes of the query loss

RANK_ONLY = (
    "The run was trained with an optimizer whose steps are no gradient steps: the scores order samples, but "
    "their sum is no change of the query loss."
)


@dataclass(frozen=True)
class Selecting:
    """One selection, read once and kept while this process works on it.

    Attributes:
        size: how many samples, where the request tells it.
        method: of the job.
        rank_only: whether the job's scores order samples only.
    """

    id: str
    type: str
    request: dict[str, Any]
    size: int | None
    num_samples: int
    job_id: str
    method: str
    rank_only: bool

    @property
    def in_loss(self) -> bool:
        """Whether scores add up to a change of the query loss."""
        return self.method in IN_LOSS and not self.rank_only

    @property
    def warnings(self) -> list[dict[str, str]]:
        if self.method in IN_LOSS and self.rank_only:
            return [{"code": "rank_only", "detail": RANK_ONLY}]
        return []


def load(mine: Process, selection_id: str) -> Selecting:
    """The selection, from what this process has at hand if it is the same one."""
    return at_hand(mine, selection_id, lambda session: _load(session, selection_id))


def _load(session: Session, selection_id: str) -> Selecting:
    record = session.get_one(tables.Selection, selection_id)
    job = session.get_one(tables.Job, record.job_id)
    return Selecting(
        id=selection_id,
        type=record.type,
        request=record.request,
        size=record.size,
        num_samples=record.num_samples,
        job_id=job.id,
        method=job.method["name"],
        rank_only=bool((job.result or {}).get("rank_only")),
    )


def influence(mine: Process, asked: Selecting) -> InfluenceJob:
    """The job that was scored, with its runs and data: read when first asked for, then kept at hand."""
    if "influence" not in mine.at_hand:
        with mine.database.snapshot() as session:
            record = session.get_one(tables.Job, asked.job_id)
            mine.at_hand["influence"] = scoring(mine, session, record, record.method)
    found: InfluenceJob = mine.at_hand["influence"]
    return found


def has_classes(mine: Process, asked: Selecting) -> bool:
    """Whether a sample has a label that is one of several classes, and the network tells one of it."""
    job = influence(mine, asked)
    return job.task.loss in ("cross_entropy", "bce_with_logits") and job.train.targets.size == len(job.train)


def suggestions(
    mine: Process, asked: Selecting, index: NDArray[np.int64], labels: Floats, renewal: Renewal
) -> tuple[Floats, Floats]:
    """(the label that the model would give, NaN where it is the given one; its probability): [n] each."""
    job = influence(mine, asked)
    data = job.train_data(lambda samples: renewal.tick())
    found = mean_probabilities(job.task, job.runs, data, index.tolist(), chunk=_chunk(mine, job, data))
    other, confidence = suggested(found, torch.from_numpy(labels))
    return other.numpy(), confidence.numpy()


def wrong_labels(mine: Process, asked: Selecting, labels: Floats, renewal: Renewal) -> Estimate:
    """How many of all labels are wrong, as ESTIMATED_ON of them show.

    Raises:
        UserError: a target is no class.
    """
    if not has_classes(mine, asked) or (labels != np.floor(labels)).any():
        raise UserError(
            "no_classes", "Targets that are no classes can't be told wrong or right: give a size."
        )
    job = influence(mine, asked)
    data = job.train_data(lambda samples: renewal.tick())
    rows = draw_rows(len(data), min(ESTIMATED_ON, len(data)), seed=job.seed)
    chunk = _chunk(mine, job, data)
    means = [
        (counts[0], mean_probabilities(job.task, job.runs, data, rows, chunk=chunk, first=counts))
        for counts in windows([len(trained(run)) for run in job.runs])
    ]
    return most_wrong(means, torch.from_numpy(labels[rows]).long())


def _chunk(mine: Process, job: InfluenceJob, data: Data) -> int:
    inputs, targets = next(data.chunks(1, range(1)))
    checkpoint = job.runs[-1].checkpoints[-1]
    return chunk_size(job.task, checkpoint, inputs, targets, budget_bytes=mine.settings.memory_bytes)
