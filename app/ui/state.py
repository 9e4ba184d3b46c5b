"""How a job stands, in what pages say of it at their head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.catalog import METHODS
from app.catalog.listing import HARMFUL
from app.store import jobs
from app.store.tables import Dataset, Job, Selection, Trajectory

KINDS = {"influence": "scores", "train": "training", "evaluate": "evaluation"}


def of(session: Session, job: Job) -> dict[str, Any]:
    """The context of a page about a job: it, its inputs by name, its progress, and what hangs on it."""
    runs = [(one, session.get(Trajectory, one)) for one in job.trajectory_ids]
    inputs = {"training": job.train_dataset_id, "query": job.query_dataset_id}
    found = {role: session.get(Dataset, one) for role, one in inputs.items() if one}
    result = job.result or {}
    chosen = select(func.count()).select_from(Selection).where(Selection.job_id == job.id)
    return {
        **row(job),
        "progress": jobs.progress(session, job),
        "seconds": jobs.seconds_running(job) if job.started_at else None,
        "runs": [(one, run.name if run is not None and run.name else one) for one, run in runs],
        "inputs": {role: dataset for role, dataset in found.items() if dataset is not None},
        "harms": harms(job),
        "meaning": METHODS[job.method["name"]].sign if job.type == "influence" else "",
        "trained": _trained(result) if job.type == "train" else [],
        "warnings": result.get("warnings") or [],
        "by_query": result.get("per_query"),
        "selections": session.execute(chosen).scalar_one(),
    }


def row(job: Job) -> dict[str, Any]:
    """The job as a row of a list."""
    return {"job": job, "title": title(job), "kind": KINDS[job.type], "method": method(job)}


def rows(session: Session, found: Sequence[Job]) -> list[dict[str, Any]]:
    """The jobs as rows of a list, with the names of what each is over, by which they are told apart."""
    sets = {one for job in found for one in (job.train_dataset_id, job.query_dataset_id) if one}
    runs = {one for job in found for one in job.trajectory_ids}
    named: dict[str | None, str] = {}
    for dataset in session.scalars(select(Dataset).where(Dataset.id.in_(sets))):
        named[dataset.id] = dataset.name or dataset.filename
    for run in session.scalars(select(Trajectory).where(Trajectory.id.in_(runs))):
        named[run.id] = run.name or short(run.id)
    return [row(job) | {"over": _over(job, named), "short": short(job.id)} for job in found]


def _over(job: Job, named: Mapping[str | None, str]) -> str:
    """What the job is over, in words: data digits · query clean · run baseline."""
    inputs: dict[str, Sequence[str | None]] = {
        "data": [job.train_dataset_id],
        "query": [job.query_dataset_id],
        "run": job.trajectory_ids,
    }
    told = ((role, ", ".join(named[one] for one in ids if one in named)) for role, ids in inputs.items())
    return " · ".join(f"{role} {names}" for role, names in told if names)


def short(resource_id: str) -> str:
    """The end of an id, where two made in the same second differ."""
    return f"…{resource_id[-6:]}"


def title(job: Job) -> str:
    """What a job is called: its name, or what it does."""
    return job.name or {"influence": f"{method(job)} scores"}.get(job.type, f"{job.type} job")


def harms(job: Job) -> bool:
    """Whether the scores are changes of a query loss, where positive is harmful; others are the sample's."""
    known = METHODS.get((job.method or {}).get("name", ""))
    return known is not None and known.sign == HARMFUL and job.query_dataset_id is not None


def _trained(result: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """How well a trained network does, on the data it was trained on and on the query data."""
    sides = (("training data", "train"), ("query data", "query"))
    return [(name, result[side]) for name, side in sides if result.get(side)]


def method(job: Job) -> str:
    """The method in a word or two: its name, and its resolution where it has one."""
    told = job.method or {}
    extra = told.get("resolution")
    return " ".join(filter(None, [told.get("name", ""), f"({extra})" if extra else ""]))
