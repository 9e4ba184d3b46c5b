"""The units of a job that evaluates: a survey, the scores of each method, the run replayed, groups of
retrainings, and the verdict.

Each writes what it found once; one that is killed and done again finds the same bits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from app.store import evaluations, jobs, work
from app.store.tables import Work
from worker import evaluation
from worker.chunks import beside, chunk_of
from worker.evaluation import EvaluateJob
from worker.influence.agreement import Agreement
from worker.influence.errors import NonFiniteError, SampleTooLargeError
from worker.influence.evaluation import Evaluation, Scored, conclude, rank_only, scored
from worker.influence.memory import out_of_memory
from worker.influence.retraining import as_dtype, as_dtypes, in_dtype, runs_at_once
from worker.influence.score import score
from worker.influence.trajectory import Checkpoint
from worker.influence.trial import Reproduced, Trial, groups, workable
from worker.influence.trial import reproduce as replay
from worker.job import Place, finished, locked
from worker.lease import Renewal
from worker.plan import measure
from worker.problems import UserError
from worker.process import Process

NO_RUN = (
    "Not even one retraining with a batch at a time fits into the worker's memory: give it more, or use a "
    "smaller network or smaller batches."
)


def survey(mine: Process, row: Work, renewal: Renewal) -> None:
    """Finds out how the network can be retrained and how many runs at a time, and lays out the units."""
    job = evaluation.load(mine, row.subject)
    sizes, _ = measure(mine, job.exact, renewal)
    plan = {"chunk": sizes["chunk"]} | _ways(mine, job, renewal)
    asked = job.asked
    retrainings = groups(asked["leave_one_out"], asked["subsets"], asked["orders"], plan["at_once"])
    total = 1 + sum(len(group.runs) for group in retrainings)
    chosen_by_scores = asked["sampling"] == "mixed"
    with mine.database.transaction() as session:
        record = finished(session, mine, job.id, renewal.lease)
        if record is None:
            return
        jobs.set_plan(record, plan, total)
        project_id = record.project_id
        for number in job.judged:
            stage = "judge" if chosen_by_scores else "evidence"
            payload = {"method": number}
            work.add(session, "judge", job.id, project_id, stage=stage, waits_for="survey", payload=payload)
        work.add(session, "reproduce", job.id, project_id, stage="evidence", waits_for="survey", total=1)
        for group in retrainings:
            work.add(
                session,
                "retrain",
                job.id,
                project_id,
                stage="evidence",
                waits_for="judge" if chosen_by_scores else "survey",
                payload=group._asdict(),
                total=len(group.runs),
            )
        work.add(session, "verdict", job.id, project_id, waits_for="evidence")
        jobs.stage_done(session, mine.blobs, record, "survey")


def judge(mine: Process, row: Work, renewal: Renewal) -> None:
    """Scores all samples by one method. Scores that are no numbers are a finding here, and no failure."""
    job, number = evaluation.load(mine, row.subject), row.payload["method"]
    one, began = evaluation.method_of(mine, job, number), time.monotonic()
    [run] = one.runs
    data = one.train_data(lambda samples: renewal.tick())
    chunk = chunk_of(mine, one, data, beside=beside(mine, one))
    try:
        with _in_memory():
            result = score(
                one.method.name,
                one.task,
                run,
                data,
                one.query_data(lambda samples: renewal.tick()),
                seed=one.seed,
                chunk=chunk,
                options=one.options_at(Place(0, 0, 0)),
            )
        found = scored(one.method.name, result, run)
    except (NonFiniteError, ArithmeticError):
        nothing = np.full(len(one.train), np.nan)
        found = Scored(nothing, this_run=one.asked.needs_order, rank_only=rank_only(one.method.name, run))
    told = {
        "this_run": found.this_run,
        "rank_only": found.rank_only,
        "steepest": found.steepest if found.steepest and math.isfinite(found.steepest[0]) else None,
        "seconds": time.monotonic() - began,
    }
    with mine.blobs.stage() as staged:
        with staged.open("wb") as file:
            np.save(file, found.scores)
        with mine.blobs.ahead(staged), mine.database.transaction() as session:
            record = locked(session, job.id)
            blob = mine.blobs.keep(session, staged)
            work.finish(session, renewal.lease, result=told, result_blob=blob)
            jobs.stage_done(session, mine.blobs, record, row.stage)


def reproduce(mine: Process, row: Work, renewal: Renewal) -> None:
    """Trains the run again with nothing left out, and looks whether it ends where it was recorded to end."""
    job, began = evaluation.load(mine, row.subject), time.monotonic()
    exact = job.exact
    query = exact.query_data(lambda samples: renewal.tick())
    assert query is not None  # noqa: S101  (the request asks for one)
    with _in_memory():
        found = replay(
            exact.task,
            exact.runs[0],
            exact.train_data(lambda samples: renewal.tick()),
            query,
            chunk=(job.plan or {})["chunk"],
            tick=renewal.tick,
        )
    told = {name: _number(value) for name, value in asdict(found).items()}
    _finish(mine, row, renewal, told | {"seconds": time.monotonic() - began})


def retrain(mine: Process, row: Work, renewal: Renewal) -> None:
    """One group of retrainings."""
    job, began = evaluation.load(mine, row.subject), time.monotonic()
    trial = job.trial(renewal, evaluation.first_scores(mine, job))
    group = next(one for one in trial.groups if one._asdict() == row.payload)
    with _in_memory():
        losses = trial.run(group, renewal.tick)
    told = {"losses": [_number(loss) for loss in losses], "seconds": time.monotonic() - began}
    _finish(mine, row, renewal, told)


def verdict(mine: Process, row: Work, renewal: Renewal) -> None:
    """Figures and words; result, state and the last event are one transaction."""
    job = evaluation.load(mine, row.subject)
    trial = job.trial(renewal, evaluation.first_scores(mine, job))
    with mine.database.snapshot() as session:
        units = work.of(session, job.id, "judge", "reproduce", "retrain")
        by_number = evaluation.judged_of(mine, session, [one for one in units if one.kind == "judge"])
    told = next(one.result or {} for one in units if one.kind == "reproduce")
    reproduced = Reproduced(*(_read(told[name]) for name in ("drift", "loss", "recorded_loss")))
    methods = {label: by_number[number] for number, label in enumerate(job.methods)}
    exact = by_number[job.exact_number]
    losses = evaluation.losses_of([one for one in units if one.kind == "retrain"])
    found = conclude(trial, methods, losses, exact=exact, reproduced=reproduced)
    result = _result(job, methods, found, reproduced)
    result["timing"] = {
        "device": str(job.exact.device),
        "busy_seconds": sum((one.result or {})["seconds"] for one in units),
        "forward_passes": job.asked["forward_passes"],
    }
    with mine.blobs.stage() as staged:
        staged.write_text(json.dumps(_table(job, trial, methods | {"exact": exact}, found), allow_nan=False))
        with mine.blobs.ahead(staged), mine.database.transaction() as session:
            record = locked(session, job.id)
            work.finish(session, renewal.lease)
            evaluations.keep(session, mine.blobs, job.id, staged)
            result["timing"]["seconds"] = jobs.seconds_running(record)
            jobs.succeed(session, mine.blobs, record, result)


def _ways(mine: Process, job: EvaluateJob, renewal: Renewal) -> dict[str, Any]:
    """How the network can be retrained, and how many runs side by side."""
    exact, [run] = job.exact, job.exact.runs
    data, first = exact.train_data(lambda samples: renewal.tick()), run.checkpoints[0]
    try:
        with _in_memory():
            dtype, batched = workable(exact.task, first, data)
    except RuntimeError as problem:
        raise UserError("not_trainable", f"The run can't be trained again: {problem}.") from problem
    [(inputs, targets)] = data.chunks(1, range(1))
    state = Checkpoint(0, (), as_dtypes(first.params, dtype), as_dtypes(first.buffers, dtype))
    at_once = runs_at_once(
        in_dtype(exact.task, dtype),
        state,
        as_dtype(inputs, dtype),
        targets,
        batch=max(order.shape[1] for order in job.orders()),
        budget_bytes=mine.settings.memory_bytes,
    )
    return {"dtype": str(dtype).removeprefix("torch."), "batched": batched, "at_once": at_once}


def _finish(mine: Process, row: Work, renewal: Renewal, result: dict[str, Any]) -> None:
    with mine.database.transaction() as session:
        record = locked(session, row.subject)
        work.finish(session, renewal.lease, result=result)
        jobs.stage_done(session, mine.blobs, record, row.stage)


@contextmanager
def _in_memory() -> Iterator[None]:
    try:
        yield
    except (SampleTooLargeError, MemoryError, RuntimeError) as problem:
        if isinstance(problem, SampleTooLargeError) or out_of_memory(problem):
            raise UserError("out_of_memory", NO_RUN) from problem
        raise


def _result(
    job: EvaluateJob, methods: dict[str, Scored], found: Evaluation, reproduced: Reproduced
) -> dict[str, Any]:
    evidence = found.evidence
    value, checkpoint = evidence.steepest or (None, None)
    return {
        "num_samples": len(job.exact.train),
        "answers": "this_run" if evidence.orders == 1 else "expected",
        "orders": evidence.orders,
        "reliability": _number(evidence.reliability),
        "methods": {
            label: {
                "method": job.methods[label],
                "level": found.verdict.levels[label],
                "answers": "this_run" if one.this_run else "expected",
                "rank_only": one.rank_only or None,
            }
            | _figures(found.figures[label])
            for label, one in methods.items()
        },
        "exact": _figures(found.figures["exact"]),
        "verdict": {
            "level": found.verdict.level,
            "text": found.verdict.text,
            "best_method": found.verdict.best_method,
        },
        "reproduces": reproduced.reproduces,
        "difference": _number(reproduced.difference),
        "drift": _number(reproduced.drift),
        "noise": {
            "dtype": (job.plan or {})["dtype"],
            "floor": _number(evidence.floor),
            "spread": _number(evidence.spread),
        },
        "steepest": None if value is None else {"eta_lambda_max": value, "checkpoint": checkpoint},
        "retrainings": evidence.retrainings,
        "diverged": evidence.diverged,
        "warnings": [],
    }


def _figures(both: tuple[Agreement | None, Agreement | None]) -> dict[str, Any]:
    """Leave-one-out and half subsets as JSON has them; null for what is no number."""

    def plain(found: Agreement | None) -> dict[str, Any] | None:
        if found is None:
            return None
        return {
            name: [_number(end) for end in value] if isinstance(value, tuple) else _number(value)
            for name, value in asdict(found).items()
        }

    alone, subsets = both
    return {"leave_one_out": plain(alone), "lds": plain(subsets)}


def _table(job: EvaluateJob, trial: Trial, by_name: dict[str, Scored], found: Evaluation) -> dict[str, Any]:
    """What the figures follow from: (sample or subset, predicted, true)."""
    ids = job.exact.train.ids
    sums = {name: trial.sums(one.scores) for name, one in by_name.items()} if trial.subsets else {}
    return {
        "leave_one_out": [
            {
                "sample_index": index,
                "sample_id": None if ids is None else str(ids[index]),
                "stands_for": weight,
                "true": _number(effect),
                "predicted": {name: _number(one.scores[index]) for name, one in by_name.items()},
            }
            for index, weight, effect in zip(trial.removed, trial.stands_for, found.effects, strict=True)
        ],
        "subsets": [
            {
                "true": _number(loss),
                "predicted": {name: _number(total[subset]) for name, total in sums.items()},
            }
            for subset, loss in enumerate(found.subset_losses)
        ],
    }


def _number(value: Any) -> Any:
    """A float that JSON has; null for NaN and infinity. Integers stay."""
    if value is None or isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None


def _read(value: float | None) -> float:
    return math.nan if value is None else value
