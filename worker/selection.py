"""A selection as the worker makes it: what is asked, and the job whose scores it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.store import chosen, selections, tables, work
from app.store.chosen import Rows
from worker.chunks import chunk_of
from worker.data import prepared, selected
from worker.influence.selection.covering import courses, covering
from worker.influence.selection.duplicates import crowding, near, sketches
from worker.influence.selection.labels import mean_probabilities, suggested, trained
from worker.influence.selection.noise import Estimate, most_wrong, windows
from worker.influence.trajectory import Data, draw_rows
from worker.job import InfluenceJob, Place, scoring
from worker.lease import Renewal
from worker.problems import UserError
from worker.process import Process, at_hand
from worker.training import TrainJob

Floats = NDArray[np.float64]
COMPARED = 200_000  # samples among which near-duplicates are looked for
PAIRS = 100  # of near-duplicates told one by one
ESTIMATED_ON = 20_000  # samples that tell the share of wrong labels to within a few tenths of a percent
PLACE = Place(0, 0, 0)
IN_LOSS = ("diff_in", "tracin", "influence_function")  # whose scores are changes of the query loss

RANK_ONLY = (
    "The run was trained with an optimizer whose steps are no gradient steps: the scores order samples, but "
    "their sum is no change of the query loss."
)
MOSTLY_WRONG = (
    "More than half of the labels look wrong: rather than that, the network may have learned too little to "
    "tell. Look at its accuracy, and at some of the samples, before you act."
)


@dataclass(frozen=True)
class Selecting:
    """One selection, read once and kept while this process works on it.

    Attributes:
        size: how many samples, where the request tells it.
        wrong: how many labels are taken to be wrong, once that is estimated.
        method: of the job.
        rank_only: whether the job's scores order samples only.
        query: which part of the query data set the job asked about.
    """

    id: str
    type: str
    request: dict[str, Any]
    size: int | None
    num_samples: int
    job_id: str
    method: str
    rank_only: bool
    query: dict[str, Any] | None
    wrong: int | None = None

    @property
    def in_loss(self) -> bool:
        """Whether scores add up to a change of the query loss."""
        return self.method in IN_LOSS and not self.rank_only

    @property
    def warnings(self) -> list[dict[str, str]]:
        found = {}
        if self.method in IN_LOSS and self.rank_only:
            found["rank_only"] = RANK_ONLY
        if self.wrong is not None and self.wrong > self.num_samples / 2:
            found["mostly_wrong"] = MOSTLY_WRONG
        if self.request.get("no_update"):
            found["no_update"] = self.request["no_update"]
        return [{"code": code, "detail": detail} for code, detail in found.items()]


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
        query=job.query,
    )


def influence(mine: Process, asked: Selecting) -> InfluenceJob:
    """The job that was scored, with its runs and data: read when first asked for, then kept at hand."""
    if "influence" not in mine.at_hand:
        with mine.database.snapshot() as session:
            record = session.get_one(tables.Job, asked.job_id)
            mine.at_hand["influence"] = scoring(mine, session, record, record.method)
    found: InfluenceJob = mine.at_hand["influence"]
    return found


def updating(mine: Process, asked: Selecting) -> InfluenceJob:
    """The job's run as `diff_in` takes it, to carry its influence on the parameters forwards."""
    if "updating" not in mine.at_hand:
        with mine.database.snapshot() as session:
            record = session.get_one(tables.Job, asked.job_id)
            mine.at_hand["updating"] = scoring(mine, session, record, asked.request["update"])
    found: InfluenceJob = mine.at_hand["updating"]
    return found


def query_of(job: TrainJob, part: dict[str, Any] | None, renewal: Renewal) -> Data:
    """The query samples that the job asked about, for a run that is trained again."""
    assert job.query is not None  # noqa: S101  (or nothing is verified)
    rows = selected(job.query, part)
    return prepared(
        job.query, job.task, job.preprocessing, job.device, rows=rows, tick=lambda samples: renewal.tick()
    )


def rows_of(mine: Process, asked: Selecting) -> Rows:
    """The samples that were chosen."""
    with mine.database.snapshot() as session:
        found = selections.path(session, mine.blobs, asked.id, selections.ROWS)
    assert found is not None  # noqa: S101  (the first unit writes them)
    return chosen.read(found[0])


def locked(session: Session, selection_id: str) -> tables.Selection:
    """The record, locked until the end of the transaction; LeaseLostError when it is gone."""
    record = selections.locked(session, selection_id)
    if record is None:
        raise work.LeaseLostError(selection_id)
    return record


def has_classes(mine: Process, asked: Selecting) -> bool:
    """Whether a sample has a label that is one of several classes, and the network tells one of it."""
    job = influence(mine, asked)
    return job.task.loss in ("cross_entropy", "bce_with_logits") and job.train.targets.size == len(job.train)


def _trained_on(mine: Process, asked: Selecting, renewal: Renewal) -> tuple[InfluenceJob, Data]:
    """The job that was scored, and its training set as the network takes it."""
    job = influence(mine, asked)
    return job, job.train_data(lambda samples: renewal.tick())


def _need_classes(mine: Process, asked: Selecting, labels: Floats, words: str) -> None:
    if not has_classes(mine, asked) or (labels != np.floor(labels)).any():
        raise UserError("no_classes", words)


def suggestions(
    mine: Process, asked: Selecting, index: NDArray[np.int64], labels: Floats, renewal: Renewal
) -> tuple[Floats, Floats]:
    """(the label that the model would give, NaN where it is the given one; its probability): [n] each."""
    job, data = _trained_on(mine, asked, renewal)
    found = mean_probabilities(job.task, job.runs, data, index.tolist(), chunk=chunk_of(mine, job, data))
    other, confidence = suggested(found, torch.from_numpy(labels))
    return other.numpy(), confidence.numpy()


def wrong_labels(mine: Process, asked: Selecting, labels: Floats, renewal: Renewal) -> Estimate:
    """How many of all labels are wrong, as ESTIMATED_ON of them show.

    Raises:
        UserError: a target is no class.
    """
    words = "Targets that are no classes can't be told wrong or right: give a size."
    _need_classes(mine, asked, labels, words)
    job, data = _trained_on(mine, asked, renewal)
    rows = draw_rows(len(data), min(ESTIMATED_ON, len(data)), seed=job.seed)
    chunk = chunk_of(mine, job, data)
    means = [
        (counts[0], mean_probabilities(job.task, job.runs, data, rows, chunk=chunk, first=counts))
        for counts in windows([len(trained(run)) for run in job.runs])
    ]
    return most_wrong(means, torch.from_numpy(labels[rows]).long())


def duplicates(mine: Process, asked: Selecting, rows: Rows, renewal: Renewal) -> dict[str, Any] | None:
    """{count, pairs}: how many samples are all but the same as one of these, and the first of the pairs; None
    where there are too many to look for them.
    """
    if asked.num_samples > COMPARED:
        return None
    job, data = _trained_on(mine, asked, renewal)
    found = near(sketches(data, chunk=chunk_of(mine, job, data)), rows["sample_index"].tolist())
    pairs = [
        {"sample_index": one.inside, "duplicate_index": one.outside, "similarity": round(one.similarity, 4)}
        for one in found[:PAIRS]
    ]
    return {"count": len({one.outside for one in found}), "pairs": pairs}


def covered(mine: Process, asked: Selecting, labels: Floats, renewal: Renewal) -> Floats:
    """How much of its class is taken before each sample, [N]; the lower, the more it stands for.

    Raises:
        UserError: a target is no class.
    """
    words = "Targets that are no classes can't be covered class by class: ask by: influence."
    _need_classes(mine, asked, labels, words)
    job, data = _trained_on(mine, asked, renewal)
    found = courses(job.task, job.runs, data, chunk=chunk_of(mine, job, data), seed=job.seed)
    return covering(found, labels, job.seed, lambda samples: renewal.tick())


def crowd(mine: Process, asked: Selecting, order: NDArray[np.int64], renewal: Renewal) -> NDArray[np.bool_]:
    """Which samples are all but the same as one before them in this order, [N]."""
    job, data = _trained_on(mine, asked, renewal)
    found: NDArray[np.bool_] = crowding(sketches(data, chunk=chunk_of(mine, job, data)), order).numpy()
    return found
