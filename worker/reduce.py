"""The last unit of an influence job: its blocks added up into scores, in a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from app.store import jobs, scores, work
from app.store.tables import Work
from worker import job as influence_job
from worker.job import InfluenceJob, locked
from worker.lease import Renewal
from worker.process import Process
from worker.report import warnings


def reduce(mine: Process, row: Work, renewal: Renewal) -> None:
    """Adds up all blocks in a fixed order; scores, state and the last event are one transaction."""
    job = influence_job.load(mine, row.subject)
    with mine.database.snapshot() as session:
        units = work.of(session, job.id, "sweep", "block")
        files = {unit.id: mine.blobs.path(session, unit.result_blob or "") for unit in units}
    m, n = len(job.schedule.steps), len(job.train)
    columns = {name: np.empty((m, n)) for name in ("contribution", "loss")}
    predictions, self_influence = np.empty(n), np.zeros(n)
    for unit in sorted(
        (unit for unit in units if unit.kind == "block"), key=lambda u: (u.payload["k"], u.payload["start"])
    ):
        k, rows = unit.payload["k"], slice(unit.payload["start"], unit.payload["stop"])
        values = np.load(files[unit.id], mmap_mode="r")
        for name, column in columns.items():
            column[k, rows] = values[name]
        self_influence[rows] += values["self_influence"]
        if k == m - 1:
            predictions[rows] = values["prediction"]
        renewal.tick()
    total = job.method.reduce(torch.from_numpy(columns["contribution"])).numpy()
    has_self = bool(np.isfinite(self_influence).all())
    result = _result(job, units, has_self)
    with mine.database.transaction() as session:
        record = locked(session, job.id)
        work.finish(session, renewal.lease)
        scores.write(
            session,
            job.id,
            {
                "sample_index": np.arange(n),
                "sample_id": job.train.ids,
                "score": total,
                "rank": scores.ranks(total),
                "self_influence": self_influence if has_self else None,
                "label": _labels(job),
                "predicted_label": predictions,
                "loss": columns["loss"][-1],
                "contributions": columns["contribution"].T,
                "losses": columns["loss"].T,
            },
        )
        result["timing"] |= {"seconds": jobs.seconds_running(record), "forward_passes": record.total}
        jobs.succeed(session, mine.blobs, record, result)


def _labels(job: InfluenceJob) -> Any:
    targets = np.asarray(job.train.targets)
    return targets.reshape(-1) if targets.size == len(targets) else None


def _result(job: InfluenceJob, units: Any, has_self: bool) -> dict[str, Any]:
    notes = [unit.result["notes"] | {"k": unit.result["k"]} for unit in units if unit.kind == "sweep"]
    return {
        "num_samples": len(job.train),
        "answers": "expected",
        "self_influence": has_self,
        "warnings": warnings(job, notes),
        "checkpoints": sorted(notes, key=lambda note: note["k"]),
        "timing": {"device": str(job.device), "busy_seconds": sum(unit.result["seconds"] for unit in units)},
    }
