"""An evaluation as the engine wants it: the run to train again, what is left out, and who is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sqlalchemy.orm import Session

from app.catalog.options import BATCH
from app.store import tables, work
from app.store.tables import Work
from worker.influence.agreement import Floats, choose
from worker.influence.evaluation import Scored
from worker.influence.order import loader_order
from worker.influence.trial import Group, Trial
from worker.job import InfluenceJob, scoring
from worker.lease import Renewal
from worker.process import Process, at_hand

EXACT = -1  # in place of a method's number: the exact steps, which every verdict is seen against


@dataclass(frozen=True)
class EvaluateJob:
    """One job's inputs, read once and kept while this process works on it.

    Attributes:
        exact: the run with its batch order and all its tensors, as scoring by exact steps takes it.
        asked: the request.
        plan: the sizes every unit of the job agrees on; None until it is planned.
        recipe: of the trajectory.
    """

    id: str
    exact: InfluenceJob
    asked: dict[str, Any]
    plan: dict[str, Any] | None
    recipe: dict[str, Any]

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        """What is judged, by the name it is shown under."""
        return dict(zip(self.asked["labels"], self.asked["methods"], strict=True))

    @property
    def judged(self) -> list[int]:
        """Numbers of all that is scored: the methods, and the exact steps unless they are among these."""
        known = self.asked["exact"] in self.asked["methods"]
        return [*range(len(self.methods)), *([] if known else [EXACT])]

    @property
    def exact_number(self) -> int:
        """The number of the exact steps."""
        methods = self.asked["methods"]
        return methods.index(self.asked["exact"]) if self.asked["exact"] in methods else EXACT

    def orders(self) -> list[torch.Tensor]:
        """The run's own batch order or, for a mean over several, so many others: int64 [T, B] each."""
        [run] = self.exact.runs
        assert run.order is not None  # noqa: S101  (or the job was not admitted)
        steps, count = run.schedule.steps[-1], self.asked["orders"]
        if count == 1:
            return [run.order[:steps]]
        own, size = self.recipe.get("seed"), self.recipe.get("batch_size") or BATCH
        seeds = [seed for seed in range(self.exact.seed + 1, self.exact.seed + count + 2) if seed != own]
        drop = bool(self.recipe.get("drop_last"))
        n = len(self.exact.train)
        return [loader_order(n, size, steps, seed, drop_last=drop) for seed in seeds[:count]]

    def trial(self, renewal: Renewal, first_scores: Floats | None) -> Trial:
        """What is retrained; `first_scores`, of the first method, where samples are chosen by them."""
        plan, exact = self.plan or {}, self.exact
        removed, stands_for = choose(
            self.asked["leave_one_out"],
            len(exact.train),
            seed=exact.seed,
            sampling=self.asked["sampling"],
            scores=first_scores,
        )
        query = exact.query_data(lambda samples: renewal.tick())
        assert query is not None  # noqa: S101  (the request asks for one)
        return Trial(
            task=exact.task,
            trajectory=exact.runs[0],
            train=exact.train_data(lambda samples: renewal.tick()),
            query=query,
            orders=self.orders(),
            removed=removed,
            stands_for=stands_for,
            subsets=self.asked["subsets"],
            seed=exact.seed,
            dtype=getattr(torch, plan["dtype"]),
            batched=plan["batched"],
            at_once=plan["at_once"],
        )


def load(mine: Process, job_id: str) -> EvaluateJob:
    """The job, from what this process has at hand if it is the same one and is planned.

    Raises:
        UserError: what the trajectory holds can't be used.
    """
    if getattr(mine.at_hand.get("job"), "plan", None) is None:  # it may have been planned since
        mine.at_hand.clear()
    return at_hand(mine, job_id, lambda session: _load(mine, session, job_id))


def _load(mine: Process, session: Session, job_id: str) -> EvaluateJob:
    record = session.get_one(tables.Job, job_id)
    asked = record.request or {}
    trajectory = session.get_one(tables.Trajectory, record.trajectory_ids[0])
    return EvaluateJob(
        id=job_id,
        exact=scoring(mine, session, record, asked["exact"]),
        asked=asked,
        plan=record.plan,
        recipe=trajectory.recipe or {},
    )


def method_of(mine: Process, job: EvaluateJob, number: int) -> InfluenceJob:
    """What scoring by the method of this number takes."""
    if number == job.exact_number:
        return job.exact
    with mine.database.snapshot() as session:
        record = session.get_one(tables.Job, job.id)
        return scoring(mine, session, record, job.asked["methods"][number])


def scores_of(mine: Process, session: Session, unit: Work) -> Floats:
    """The scores [N] that a unit found."""
    found: Floats = np.load(mine.blobs.path(session, unit.result_blob or ""), allow_pickle=False)
    return found


def first_scores(mine: Process, job: EvaluateJob) -> Floats | None:
    """Those of the first method, where they choose the samples that are left out."""
    if job.asked["sampling"] != "mixed":
        return None
    with mine.database.snapshot() as session:
        units = work.of(session, job.id, "judge")
        return scores_of(mine, session, next(unit for unit in units if unit.payload["method"] == 0))


def judged_of(mine: Process, session: Session, units: Sequence[Work]) -> dict[int, Scored]:
    """What every unit that scored found, by the number of its method."""
    found = {}
    for unit in units:
        told = unit.result or {}
        steepest = tuple(told["steepest"]) if told["steepest"] else None
        scores = scores_of(mine, session, unit)
        found[unit.payload["method"]] = Scored(scores, told["this_run"], told["rank_only"], steepest)
    return found


def losses_of(units: Sequence[Work]) -> dict[Group, Floats]:
    """What every group of retrainings ended in; NaN where it diverged."""
    return {
        Group(**unit.payload): np.array(
            [np.nan if loss is None else loss for loss in (unit.result or {})["losses"]]
        )
        for unit in units
    }
