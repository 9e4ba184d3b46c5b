"""The units that verify a selection, each a whole training run, and the one that gathers what came of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.store import chosen, selections, work
from app.store.tables import Work
from worker import again, selection
from worker.effects import Effects, of_deletion, on_queries
from worker.influence.selection.verdict import changed, compared, summary, words
from worker.influence.task import Tensors
from worker.lease import Renewal
from worker.process import Process
from worker.selection import Selecting
from worker.training import TrainJob

BEFORE, AFTER = "before", "after"
PARTS = ("forget", "retain", "test")
FAR = 1.0  # times the sum of the scores
BEYOND_LINEAR = (
    "The scores add up to a change of the query loss by {:+.3g}, and with the updated weights it changes by "
    "{:+.3g}: taking these samples out is no small change any more. Trust neither before you verified them."
)


def lay_out(seeds: int) -> list[dict[str, Any]]:
    """What each unit trains: every seed with all samples, and with what the selection leaves."""
    return [{"arm": arm, "seed": seed} for seed in range(seeds) for arm in (BEFORE, AFTER)]


def verify(mine: Process, row: Work, renewal: Renewal) -> None:
    """Trains once more by the recipe, with or without, and sees how it does."""
    asked = selection.load(mine, row.subject)
    recipe_seed = asked.request["training"]["recipe"]["seed"] or 0
    seed = recipe_seed + row.payload["seed"]
    job = again.load(mine, asked.job_id, asked.request, seed)
    found = selection.rows_of(mine, asked)
    rows, labels = None, {}
    if row.payload["arm"] == AFTER:
        keep, _, relabel = chosen.parts(found, asked.num_samples)
        labels = dict(zip(relabel["sample_index"].tolist(), relabel["suggested_label"].tolist(), strict=True))
        rows = sorted([*keep.tolist(), *labels])
    ended = again.train_again(job, rows, labels, seed, renewal)
    told = {"effects": None if ended is None else _effects(mine, asked, job, found, ended, renewal)}
    with mine.database.transaction() as session:
        selection.locked(session, asked.id)
        work.finish(session, renewal.lease, result=told)
        work.release(session, asked.id, row.stage)


def settle(mine: Process, row: Work, renewal: Renewal) -> None:
    """Puts together what the units found: result and state are one transaction."""
    asked = selection.load(mine, row.subject)
    with mine.database.snapshot() as session:
        units = work.of(session, asked.id, "select", "update", "verify")
    by_kind = {kind: [unit for unit in units if unit.kind == kind] for kind in ("select", "update", "verify")}
    result = dict(by_kind["select"][0].result or {})
    for unit in by_kind["update"]:
        result["update"] = _updated(unit.result or {})
        result["warnings"] = [*result["warnings"], *_doubts(result)]
    if by_kind["verify"]:
        result["verification"] = _verification(by_kind["verify"])
    with mine.database.transaction() as session:
        record = selection.locked(session, asked.id)
        work.finish(session, renewal.lease)
        selections.succeed(session, mine.blobs, record, result)


def _effects(
    mine: Process,
    asked: Selecting,
    job: TrainJob,
    found: chosen.Rows,
    ended: tuple[Tensors, Tensors],
    renewal: Renewal,
) -> Effects:
    params, held = ended
    memory = mine.settings.memory_bytes
    query = selection.query_of(job, asked.query, renewal)
    if asked.type != "deletion":
        return on_queries(job.task, query, params, held, memory)
    train = job.data(job.train, lambda samples: renewal.tick())
    removed = found["sample_index"].tolist()
    return of_deletion(job.task, train, removed, query, params, held, memory)


def _updated(told: dict[str, Any]) -> dict[str, Any]:
    """The update's part of the result, with what the group does to the query loss."""
    was, now = (told["effects"][name]["test"]["loss"] for name in ("original", "updated"))
    return told | {"predicted_change": now - was}


def _doubts(result: dict[str, Any]) -> list[dict[str, str]]:
    """A warning where the updated weights do other than the sum of the scores says."""
    summed, moved = result["predicted_change"], result["update"]["predicted_change"]
    if summed is None or abs(moved - summed) <= FAR * abs(summed):
        return []
    return [{"code": "beyond_linear", "detail": BEYOND_LINEAR.format(summed, moved)}]


def _verification(units: Sequence[Work]) -> dict[str, Any]:
    """Figures of each side and of their differences, and what they come to in words."""
    by_arm = {
        arm: [
            (unit.result or {})["effects"]
            for unit in sorted(units, key=lambda one: one.payload["seed"])
            if unit.payload["arm"] == arm
        ]
        for arm in (BEFORE, AFTER)
    }
    seeds = len(by_arm[BEFORE])

    def of(part: str, figure: str) -> dict[str, Any] | None:
        return compared(*([one and one[part][figure] for one in by_arm[arm]] for arm in (BEFORE, AFTER)))

    loss, accuracy = of("test", "loss"), of("test", "accuracy")
    told: dict[str, Any] = {"seeds": seeds, "loss": loss, "accuracy": accuracy}
    told["changed"] = changed(loss) or changed(accuracy)
    told["text"] = words(loss, accuracy, seeds)
    told["diverged"] = sum(one is None for every in by_arm.values() for one in every)
    known = [one for one in by_arm[AFTER] if one is not None]
    if known and "membership_auc" in known[0]:
        told["retrained"] = {
            part: {figure: summary([one[part][figure] for one in known]) for figure in ("loss", "accuracy")}
            for part in PARTS
        } | {"membership_auc": summary([one["membership_auc"] for one in known])}
    return told
