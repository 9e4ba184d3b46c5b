"""The unit that makes a selection: which samples, and what to do with each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from app.store import chosen, scores, selections, work
from app.store.chosen import ACTIONS, Rows
from app.store.tables import Work
from worker import second, selection
from worker.influence.selection.choosing import coreset, drawn, most, postponed
from worker.influence.selection.labels import SURE
from worker.influence.selection.noise import Estimate
from worker.influence.selection.second import suspects
from worker.lease import Renewal
from worker.process import Process
from worker.selection import Selecting
from worker.verify import lay_out

KEEP, REMOVE, RELABEL = (ACTIONS.index(one) for one in ("keep", "remove", "relabel"))
MOST_CLASSES = 1000  # to be told one by one


def select(mine: Process, row: Work, renewal: Renewal) -> None:
    """Chooses the samples; rows, result and state are one transaction."""
    asked = selection.load(mine, row.subject)
    with mine.database.snapshot() as session:
        table = scores.arrays(session, asked.job_id, "score", "suspicion", "label", "loss")
    estimate = None
    if asked.request.get("auto") or asked.request.get("drop_suspects"):
        estimate = selection.wrong_labels(mine, asked, table["label"], renewal)
        asked = replace(asked, wrong=round(estimate.share * asked.num_samples))
    if asked.request.get("auto"):
        asked = replace(asked, size=asked.wrong)
    found = {"clean": _clean, "coreset": _coreset, "deletion": _deletion, "decided": _decided}[asked.type](
        mine, asked, table, renewal
    )
    result = _result(asked, found, table)
    if asked.type in ("clean", "coreset"):
        result["estimate"] = _told(estimate, asked) if estimate is not None else None
    if asked.type in ("clean", "decided"):
        result["duplicates"] = selection.duplicates(mine, asked, found, renewal)
    following = _following(asked)
    with mine.blobs.stage() as staged:
        chosen.write(staged, found)
        with mine.blobs.ahead(staged), mine.database.transaction() as session:
            record = selection.locked(session, asked.id)
            selections.keep(session, mine.blobs, record, selections.ROWS, staged)
            record.size = len(found)
            work.finish(session, renewal.lease, result=result)
            if following:
                selections.go_on(session, record, following)
            else:
                selections.succeed(session, mine.blobs, record, result)


def _following(asked: Selecting) -> list[tuple[str, dict[str, Any]]]:
    """The units that come after the choice: (kind, payload) each."""
    units: list[tuple[str, dict[str, Any]]] = []
    if asked.request.get("update"):
        units.append(("update", {}))
    if asked.request.get("verify"):
        units += [("verify", payload) for payload in lay_out(asked.request["seeds"])]
    return units


def _clean(mine: Process, asked: Selecting, table: dict[str, Any], renewal: Renewal) -> Rows:
    assert asked.size is not None  # noqa: S101  (the request tells it)
    if asked.request.get("rounds") == 2 and asked.size:
        return _clean_twice(mine, asked, table, asked.size, renewal)
    index = most(table[asked.request["by"]], asked.size)
    columns = _columns(index, table)
    action = np.full(len(index), REMOVE, dtype=np.uint8)
    if len(index) and selection.has_classes(mine, asked):
        told = selection.suggestions(mine, asked, index, columns["label"], renewal)
        columns |= {"suggested_label": told[0], "confidence": told[1]}
        if asked.request["relabel"]:
            action[np.nan_to_num(told[1]) >= SURE] = RELABEL
    return chosen.rows(action, columns)


def _clean_twice(
    mine: Process, asked: Selecting, table: dict[str, Any], wrong: int, renewal: Renewal
) -> Rows:
    """The suspects that a second run does not acquit, the most suspicious first."""
    index = suspects(table[asked.request["by"]], wrong)
    found = second.opinion(mine, asked, index, table["label"], renewal)
    guilty = ~found.acquitted.numpy()
    label, confidence = found.label.numpy()[guilty], found.confidence.numpy()[guilty]
    action = np.full(len(label), REMOVE, dtype=np.uint8)
    if asked.request["relabel"]:
        action[found.relabelled.numpy()[guilty]] = RELABEL
    columns = _columns(index[guilty], table) | {"suggested_label": label, "confidence": confidence}
    return chosen.rows(action, columns)


def _coreset(mine: Process, asked: Selecting, table: dict[str, Any], renewal: Renewal) -> Rows:
    assert asked.size is not None  # noqa: S101  (the request tells it)
    labels = table["label"] if asked.request["stratify"] else None
    order = _worthless(mine, asked, table, renewal)
    wrong = np.zeros(asked.num_samples, dtype=bool)
    if asked.wrong:
        wrong[most(table["suspicion"], asked.wrong)] = True
        order = postponed(order, wrong)
    if asked.request.get("diversity"):
        crowd = selection.crowd(mine, asked, np.argsort(order, kind="stable"), renewal)
        order = postponed(postponed(order, crowd), wrong)
    index = coreset(order, asked.size, labels)
    return chosen.rows(np.full(len(index), KEEP, dtype=np.uint8), _columns(index, table))


def _worthless(mine: Process, asked: Selecting, table: dict[str, Any], renewal: Renewal) -> Any:
    """What a coreset is chosen by, [N]: the higher, the sooner a sample goes."""
    score = table["score"]
    if asked.request["by"] == "coverage":
        return selection.covered(mine, asked, table["label"], renewal)
    if asked.request["by"] == "harm":
        return score
    alike = asked.request["by"] == "random"
    return -drawn(
        np.ones_like(score) if alike else np.abs(score) ** 0.5, selection.influence(mine, asked).seed
    )


def _deletion(mine: Process, asked: Selecting, table: dict[str, Any], renewal: Renewal) -> Rows:
    index = np.asarray(asked.request["sample_indices"], dtype=np.int64)
    return chosen.rows(np.full(len(index), REMOVE, dtype=np.uint8), _columns(index, table))


def _decided(mine: Process, asked: Selecting, table: dict[str, Any], renewal: Renewal) -> Rows:
    """What to remove, then what to relabel. No row says to keep: then all others would be removed."""
    remove, relabel = asked.request["removed"], asked.request["relabelled"]
    index = np.array([*remove, *(sample for sample, _ in relabel)], dtype=np.int64)
    columns = _columns(index, table)
    columns["suggested_label"] = np.array([np.nan] * len(remove) + [label for _, label in relabel])
    action = np.array([REMOVE] * len(remove) + [RELABEL] * len(relabel), dtype=np.uint8)
    return chosen.rows(action, columns)


def _told(estimate: Estimate, asked: Selecting) -> dict[str, Any]:
    rounds = asked.request.get("rounds", 1)
    return {
        "wrong": asked.wrong,
        "share": estimate.share,
        "checkpoints": estimate.checkpoints,
        "rounds": rounds,
    }


def _columns(index: Any, table: dict[str, Any]) -> dict[str, Any]:
    return {"sample_index": index} | {name: values[index] for name, values in table.items()}


def _result(asked: Selecting, found: Rows, table: dict[str, Any]) -> dict[str, Any]:
    kept, removed, relabelled = chosen.parts(found, asked.num_samples)
    told: dict[str, Any] = {"keep": len(kept), "remove": len(removed), "relabel": len(relabelled)}
    if asked.type == "clean":
        values = found[asked.request["by"]]
        told["cut"] = float(values.min()) if len(values) else None
    told["predicted_change"] = _predicted(asked, found) if asked.type != "coreset" else None
    told["by_class"] = _by_class(found, table["label"])
    told["warnings"] = asked.warnings
    return told


def _predicted(asked: Selecting, found: Rows) -> float | None:
    """Of the query loss without all these samples; None where scores are no changes of it."""
    return -float(found["score"].sum()) if asked.in_loss else None


def _by_class(found: Rows, labels: Any) -> list[dict[str, Any]] | None:
    """How many there are of each given label, and how many of them are in the selection."""
    known = labels[np.isfinite(labels)]
    classes, counts = np.unique(known, return_counts=True)
    if not len(classes) or len(classes) > MOST_CLASSES or (classes != np.floor(classes)).any():
        return None
    chosen_labels = found["label"]
    return [
        {"label": int(label), "count": int(count), "selected": int((chosen_labels == label).sum())}
        for label, count in zip(classes, counts, strict=True)
    ]
