"""The last unit of an influence job: its blocks added up into scores, in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from app.catalog.options import PerQuery
from app.store import columns as kept_columns
from app.store import jobs, score_rows, scores, work
from app.store.tables import Work
from worker import job as influence_job
from worker.influence.suspicion import suspicion
from worker.job import InfluenceJob, Place, locked
from worker.lease import Renewal
from worker.process import Process
from worker.report import answers, rank_only, warnings
from worker.sums import Floats, Sums, add_up, write_influences


def reduce(mine: Process, row: Work, renewal: Renewal) -> None:
    """Adds up all blocks in a fixed order; scores, state and the last event are one transaction."""
    job = influence_job.load(mine, row.subject)
    with mine.database.snapshot() as session:
        units = work.of(session, job.id, "sweep", "block")
        files = {unit.id: mine.blobs.path(session, unit.result_blob or "") for unit in units}
    blocks = sorted(
        (unit for unit in units if unit.kind == "block"),
        key=lambda unit: (unit.payload["start"], Place.of(unit.payload)),
    )
    sums = add_up(job, blocks, files, renewal.tick)
    total = job.method.reduce(torch.from_numpy(sums.contribution)).numpy()
    has_self = bool(np.isfinite(sums.self_influence).all())
    suspicious = _suspicion(job, sums)
    result = _result(job, units, sums)
    result |= {"self_influence": has_self, "suspicion": suspicious is not None}
    columns = _columns(job, sums, total) | {"suspicion": suspicious}
    columns["self_influence"] = sums.self_influence if has_self else None
    with mine.blobs.stage() as matrix, mine.blobs.stage() as ranked, mine.blobs.stage() as beside:
        kept_columns.write(beside, columns)
        if isinstance(job.asked, PerQuery) and job.asked.per_query:
            write_influences(job, blocks, files, matrix, ranked, job.asked.top_k, renewal.tick)
        written = score_rows.ahead(mine.database, renewal.lease, job.id, columns, renewal.tick)
        with mine.blobs.ahead(matrix, ranked, beside), mine.database.transaction() as session:
            record = locked(session, job.id)
            work.finish(session, renewal.lease)
            if job.asked.by_query:
                record.influences_blob = mine.blobs.keep(session, matrix)
                record.ranked_blob = mine.blobs.keep(session, ranked)
            kept_columns.keep(session, mine.blobs, job.id, beside)
            if not written:
                scores.write(session, job.id, columns)
            result["timing"] |= {"seconds": jobs.seconds_running(record), "forward_passes": record.total}
            jobs.succeed(session, mine.blobs, record, result)


def _suspicion(job: InfluenceJob, sums: Sums) -> Floats | None:
    """How much points to a wrong label, [N]; None where the targets are no classes."""
    if job.task.loss in ("mse", "next_token"):
        return None
    harmful = None
    if job.method.name == "diff_in":
        ends = np.cumsum([len(run.checkpoints) for run in job.runs]) - 1
        harmful = torch.from_numpy(sums.contribution[ends].sum(axis=0))
    train_size = job.runs[-1].schedule.train_size
    found: Floats = suspicion(torch.from_numpy(sums.loss), harmful, train_size=train_size).numpy()
    return found


def _columns(job: InfluenceJob, sums: Sums, total: Floats) -> dict[str, Any]:
    """The columns of the scores' table that every job has."""
    return {
        "sample_index": np.arange(len(total)),
        "sample_id": job.train.ids,
        "score": total,
        "rank": scores.ranks(total),
        "standard_error": sums.standard_error,
        "label": _labels(job),
        "predicted_label": _predicted(job, sums),
        "loss": sums.loss[-1],
        "contributions": sums.contribution.T,
        "losses": sums.loss.T,
    }


def _predicted(job: InfluenceJob, sums: Sums) -> Floats:
    """As the engine has it; of pairs, the index of the sample whose caption it is."""
    if not job.task.in_groups:
        return sums.prediction
    here = np.arange(len(sums.prediction))
    return here - here % job.task.group + sums.prediction


def _labels(job: InfluenceJob) -> Any:
    targets = job.train.targets
    return np.asarray(targets).reshape(-1) if targets.size == len(targets) else None


def _result(job: InfluenceJob, units: Sequence[Work], sums: Sums) -> dict[str, Any]:
    notes = [(Place.of(unit.payload), (unit.result or {})["notes"]) for unit in units if unit.kind == "sweep"]
    told = {job.number(place): found for place, found in notes if place.repeat == 0}
    repeated = len(sums.parts) > 1
    over = "repeats" if job.asked.repeats > 1 else "trajectories"
    return {
        "num_samples": len(job.train),
        "answers": answers(job, notes),
        "rank_only": rank_only(job),
        "per_query": {"queries": len(job.queries)} if job.asked.by_query else None,
        "uncertainty": {"over": over, "count": len(sums.parts)} if repeated else None,
        "stability": sums.stability if repeated else None,
        "warnings": warnings(job, notes),
        "checkpoints": [told[k] | {"k": k} for k in sorted(told)],
        "timing": {
            "device": str(job.device),
            "busy_seconds": sum((unit.result or {})["seconds"] for unit in units),
        },
    }
