"""What a job says of its scores: which question they answer, and where to trust them less than they look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from app.catalog import DiffIn
from app.catalog.options import BATCH
from worker.influence.training import carries
from worker.job import InfluenceJob, Place

Notes = Sequence[tuple[Place, dict[str, float]]]
"""The sweeps' figures, and where each was found."""

NEAR_INSTABILITY = 1.8
DIVERGED = 0.01  # of the way between two checkpoints: rounding alone stays far below
STEPWISE = ("diff_in", "diff_in_eq9", "tracin")  # methods that follow the optimizer's steps

UNSTABLE = (
    "Learning rate times the largest curvature reaches {:.2f} in a segment; near 2 training is unstable, and "
    "removing one sample is no small change any more: check some samples by retraining."
)
OPTIMIZER = (
    "The run was trained with {}; the scores take its steps as plain gradient steps. Trust the ranking less, "
    "and the magnitudes not at all. diff_in follows the optimizer where checkpoints come with an "
    "optimizer_file that holds exp_avg_sq."
)
NO_ORDER = (
    "Which samples each batch held is not known, so that resolution '{}' was taken as segments, with every "
    "sample in each batch on average. Send the batch order (PUT /v1/trajectories/{}/batch-order), or the "
    "recipe's seed, and let the training set be the whole one."
)
DIVERGED_REPLAY = (
    "Replaying the steps ended {:.1%} of the way off the next checkpoint: the batch order (or seed), the "
    "learning rates, the optimizer or the data are not quite those of the run. Scores of these steps are of "
    "another run than yours."
)
EARLY_STEPS = (
    "{} of the last {} steps come before any checkpoint they can be replayed from, and were taken as "
    "segments. Send the initial state as the checkpoint of step 0{}."
)
CARRIED = ", or checkpoints with an optimizer_file that holds {}"
AS_PUBLISHED = (
    "The published closed form keeps the second-order part only; against true retraining it is weaker than "
    "diff_in and tracin. It is meant for reproduction."
)
NO_LEARNING = "Every learning rate is 0: nothing was learned from any sample, and every score is 0."
BATCH_SIZE = "The trajectory does not say its batch_size: random batches of {} were drawn."
SELF_AS_PUBLISHED = " Scores are given as published: the most negative are the most suspicious."


def answers(job: InfluenceJob, notes: Notes) -> Literal["this_run", "expected"]:
    """What a sample did in this very run, batch by batch, or what it would do on average."""
    exact = any(found.get("exact_steps") for _, found in notes)
    return "this_run" if exact and len(job.runs) == 1 else "expected"


def rank_only(job: InfluenceJob) -> bool:
    """Whether the scores order samples, but their size means nothing: Adam's steps are no gradient steps."""
    return job.method.name in STEPWISE and any(run.schedule.optimizer != "sgd" for run in job.runs)


def warnings(job: InfluenceJob, notes: Notes) -> list[dict[str, str]]:
    """[{code, detail}], most important first."""
    figures = [found for _, found in notes]
    found: dict[str, str] = {}
    steepest = max((note.get("eta_lambda_max", 0.0) for note in figures), default=0.0)
    if steepest >= NEAR_INSTABILITY:
        found["near_instability"] = UNSTABLE.format(steepest)
    drift = max((note.get("replay_drift", 0.0) for note in figures), default=0.0)
    if drift > DIVERGED:
        found["replay_diverged"] = DIVERGED_REPLAY.format(drift)
    found |= _about_steps(job, notes)
    if ignored := _ignored(job):
        found["optimizer_ignored"] = OPTIMIZER.format(ignored)
    found |= _about_eq9(job)
    learned = any(any(rates) for run in job.runs for rates in run.schedule.learning_rates)
    if job.method.name in (*STEPWISE, "self_influence") and not learned:
        found["no_learning"] = NO_LEARNING
    return [{"code": code, "detail": detail} for code, detail in found.items()]


def _about_steps(job: InfluenceJob, notes: Notes) -> dict[str, str]:
    """What kept steps that should have been taken one by one from being so."""
    found: dict[str, str] = {}
    asked = job.asked
    if not isinstance(asked, DiffIn) or not asked.needs_order:
        return found
    for number, run in enumerate(job.runs):
        if run.order is None:
            found["batch_order_unknown"] = NO_ORDER.format(asked.resolution, job.trajectory_ids[number])
            continue
        last = run.schedule.steps[-1]
        wanted = round(asked.tail * last) if asked.resolution == "tail" else last
        taken = sum(note.get("exact_steps", 0) for place, note in notes if place[:2] == (0, number))
        if taken < wanted:
            carried = carries(run.schedule)
            held = CARRIED.format(" and ".join(carried)) if carried else ""
            found["steps_before_first_checkpoint"] = EARLY_STEPS.format(int(wanted - taken), wanted, held)
    return found


def _ignored(job: InfluenceJob) -> str | None:
    """The optimizer whose steps were taken as plain gradient steps, if any was."""
    for run, held in zip(job.runs, job.states, strict=True):
        if run.schedule.optimizer == "sgd" or job.method.name not in STEPWISE:
            continue
        known = [at for at, states in enumerate(held) if "exp_avg_sq" in states]
        followed = job.method.name == "diff_in" and all({k, k + 1} & set(known) for k in range(len(held)))
        if not followed:
            return run.schedule.optimizer
    return None


def _about_eq9(job: InfluenceJob) -> dict[str, str]:
    if job.method.name != "diff_in_eq9":
        return {}
    to_self = job.options.get("target") == "self"
    found = {"as_published": AS_PUBLISHED + (SELF_AS_PUBLISHED if to_self else "")}
    if job.options.get("batch") != "full" and None in job.batch_sizes:
        found["batch_size_unknown"] = BATCH_SIZE.format(BATCH)
    return found
