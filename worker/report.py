"""What a job warns of: where its scores should be trusted less than they look."""

from __future__ import annotations

from typing import Any

from worker.job import InfluenceJob

NEAR_INSTABILITY = 1.8
UNSTABLE = (
    "Learning rate times the largest curvature reaches {:.2f} in a segment; near 2 training is unstable, and "
    "removing one sample is no small change any more: check some samples by retraining."
)
OPTIMIZER = (
    "The run was trained with {}; the scores take its steps as plain gradient steps. Trust the ranking less, "
    "and the magnitudes not at all."
)
AS_PUBLISHED = (
    "The published closed form keeps the second-order part only; against true retraining it is weaker than "
    "diff_in and tracin. It is meant for reproduction."
)
NO_LEARNING = "Every learning rate is 0: nothing was learned from any sample, and every score is 0."
BATCH_SIZE = "The trajectory does not say its batch_size: random batches of {} were drawn."
SELF_AS_PUBLISHED = " Scores are given as published: the most negative are the most suspicious."


def warnings(job: InfluenceJob, notes: list[dict[str, Any]]) -> list[dict[str, str]]:
    """[{code, detail}], most important first. `notes`: the sweep's figures at each checkpoint."""
    found = {}
    steepest = max((note.get("eta_lambda_max", 0.0) for note in notes), default=0.0)
    if steepest >= NEAR_INSTABILITY:
        found["near_instability"] = UNSTABLE.format(steepest)
    if job.schedule.optimizer != "sgd" and job.method.name != "loss":
        found["optimizer_ignored"] = OPTIMIZER.format(job.schedule.optimizer)
    if job.method.name == "diff_in_eq9":
        to_self = job.options.get("target") == "self"
        found["as_published"] = AS_PUBLISHED + (SELF_AS_PUBLISHED if to_self else "")
    if job.method.name != "loss" and not any(any(rates) for rates in job.schedule.learning_rates):
        found["no_learning"] = NO_LEARNING
    if job.method.name == "diff_in_eq9" and job.options.get("batch") != "full" and not job.batch_size_known:
        found["batch_size_unknown"] = BATCH_SIZE.format(job.batch_size)
    return [{"code": code, "detail": detail} for code, detail in found.items()]
