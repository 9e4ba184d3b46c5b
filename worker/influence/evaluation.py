"""Scores held against retraining: pure functions of what may have been computed on different machines.

A service takes the runs of each `trial.Group` where it likes, then `conclude`s; `evaluate` does all at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from worker.influence.agreement import Agreement, Floats, agreement, choose, reliability
from worker.influence.methods import METHODS
from worker.influence.score import Result, score
from worker.influence.task import Task
from worker.influence.trajectory import Data, Trajectory
from worker.influence.trial import Group, Reproduced, Trial, reproduce
from worker.influence.verdict import Evidence, Judged, Verdict, verdict

EXACT: dict[str, Any] = {"name": "diff_in", "resolution": "steps"}  # what every verdict is seen against


class Scored(NamedTuple):
    """What a method says of each sample [N], and how it is to be read (`verdict.Judged`)."""

    scores: Floats
    this_run: bool
    rank_only: str = ""
    steepest: tuple[float, int] | None = None


def scored(method: str, result: Result, trajectory: Trajectory) -> Scored:
    """A method's result as evidence."""
    steep = [
        (note["eta_lambda_max"], k) for k, note in enumerate(result.notes, 1) if "eta_lambda_max" in note
    ]
    return Scored(
        result.scores.numpy(),
        this_run=any(note.get("exact_steps") for note in result.notes),
        rank_only=rank_only(method, trajectory),
        steepest=max(steep, default=None),
    )


def rank_only(method: str, trajectory: Trajectory) -> str:
    """Why the size of a method's scores means nothing; empty where it does mean something."""
    if not METHODS[method].needs_query:
        return "its scores are no changes of the query loss"
    return "" if trajectory.schedule.optimizer == "sgd" else "Adam's steps are no gradient steps"


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        figures: (leave-one-out, half subsets) of each method, and of "exact" where it was taken.
        effects: L_V with each removed sample minus L_V without it, the mean over the orders, [R].
        subset_losses: L_V after training on each half, the mean over the orders, [S].
    """

    figures: dict[str, tuple[Agreement | None, Agreement | None]]
    evidence: Evidence
    verdict: Verdict
    effects: Floats
    subset_losses: Floats


def conclude(
    trial: Trial,
    methods: Mapping[str, Scored],
    losses: Mapping[Group, Floats],
    *,
    exact: Scored | None = None,
    reproduced: Reproduced | None = None,
) -> Evaluation:
    """Figures and verdict from the scores and the losses of every group; the same bits in any order of these.

    A retraining that ended in NaN or infinity is counted as diverged and left out of the figures.
    """
    whole, by_order, subset_losses = _by_order(trial, losses)
    effects, halved = by_order.mean(0), subset_losses.mean(0)
    known = np.isfinite(effects)
    asked = dict(methods) | ({"exact": exact} if exact is not None else {})
    figures = {name: _figures(trial, one.scores, effects, halved) for name, one in asked.items()}
    rounding, every = losses[trial.groups[0]] - whole[0], np.concatenate(list(losses.values()))
    steep = [one.steepest for one in methods.values() if one.steepest is not None]

    def judged(name: str, one: Scored) -> Judged:
        return Judged(name, one.this_run, *figures[name], rank_only=one.rank_only)

    evidence = Evidence(
        methods=[judged(name, one) for name, one in methods.items()],
        exact=judged("exact", exact) if exact is not None else None,
        orders=len(trial.orders),
        reliability=reliability(by_order[:, known])[1] if len(whole) > 1 and known.sum() > 2 else None,
        steepest=max(steep, default=None),
        floor=float(np.sqrt(np.mean(rounding**2))) if np.isfinite(rounding).all() else 0.0,
        spread=float(effects[known].std()) if known.sum() > 2 else None,
        loss=float(whole.mean()),
        diverged=int((~np.isfinite(every)).sum()),
        retrainings=len(every),
        reproduces=reproduced.reproduces if reproduced is not None else None,
    )
    return Evaluation(figures, evidence, verdict(evidence), effects, halved)


def _by_order(trial: Trial, losses: Mapping[Group, Floats]) -> tuple[Floats, Floats, Floats]:
    """(loss of the whole set [k], effect of leaving each sample out [k, R], loss of each subset [k, S]).

    NaN where a retraining diverged.
    """

    def of(kind: str) -> Floats:
        rows = [
            [losses[group] for group in trial.groups if (group.kind, group.order) == (kind, order)]
            for order in range(len(trial.orders))
        ]
        found = np.stack([np.concatenate(row) if row else np.empty(0) for row in rows])
        return np.where(np.isfinite(found), found, np.nan)

    left_out = of("without")
    return left_out[:, 0], left_out[:, :1] - left_out[:, 1:], of("subsets")


def _figures(
    trial: Trial, scores: Floats, effects: Floats, halved: Floats
) -> tuple[Agreement | None, Agreement | None]:
    """(leave-one-out, half subsets); None where no retraining asked."""
    known, sound = np.isfinite(effects), np.isfinite(halved)
    alone = subsets = None
    if len(effects):
        weights = np.asarray(trial.stands_for)[known]
        alone = agreement(scores[trial.removed][known], effects[known], weights, seed=trial.seed)
    if len(halved):
        subsets = agreement(trial.sums(scores)[sound], halved[sound], seed=trial.seed)
    return alone, subsets


def evaluate(
    task: Task,
    trajectory: Trajectory,
    train: Data,
    query: Data,
    methods: Mapping[str, Mapping[str, Any]],
    *,
    leave_one_out: int = 60,
    subsets: int = 0,
    orders: Sequence[torch.Tensor] | None = None,
    seed: int = 0,
    chunk: int = 256,
) -> Evaluation:
    """How far to trust each method's scores on this run: all in one process, as a service does it in units.

    Args:
        trajectory: from step 0 on, with its batch order.
        methods: {name to show: {"name": method, option: value, …}}.
        leave_one_out: how many samples, drawn at random by `seed`, are left out.
        orders: batch orders to average the truth over; None: the run's own.
    """
    assert trajectory.order is not None  # noqa: S101  (asked for above)
    removed, stands_for = choose(leave_one_out, len(train), seed=seed)
    own = [trajectory.order[: trajectory.schedule.steps[-1]]]
    trial = Trial(task, trajectory, train, query, orders or own, removed, stands_for, subsets, seed)

    def scores(method: Mapping[str, Any]) -> Scored:
        options = {name: value for name, value in method.items() if name != "name"}
        found = score(method["name"], task, trajectory, train, query, seed=seed, options=options)
        return scored(method["name"], found, trajectory)

    return conclude(
        trial,
        {name: scores(method) for name, method in methods.items()},
        {group: trial.run(group) for group in trial.groups},
        exact=scores(EXACT),
        reproduced=reproduce(task, trajectory, train, query, chunk=chunk),
    )
