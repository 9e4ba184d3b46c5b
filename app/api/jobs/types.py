"""The types a job may have: the union a request is checked against, and what each type does its own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from sqlalchemy.orm import Session

from app.api.jobs import evaluate, influence, train
from app.api.jobs.evaluate_body import EvaluateJobIn, EvaluateJobOut
from app.api.jobs.influence import InfluenceJobIn, InfluenceJobOut
from app.api.jobs.train_body import TrainJobIn, TrainJobOut
from app.settings import Settings
from app.store.blobs import BlobStore
from app.store.tables import Job

TypeName = Literal["influence", "train", "evaluate"]
NewJob = Annotated[InfluenceJobIn | TrainJobIn | EvaluateJobIn, Field(discriminator="type")]
AnyJobOut = InfluenceJobOut | TrainJobOut | EvaluateJobOut
JobOut = Annotated[AnyJobOut, Field(discriminator="type")]


class JobType(NamedTuple):
    """How a job of a type is created from its body, after every check, and how it is shown."""

    create: Callable[[Session, BlobStore, Settings, str, Any], Job]
    shown: Callable[[Session, Job, int | None], AnyJobOut]


TYPES: dict[str, JobType] = {
    "influence": JobType(influence.create, influence.shown),
    "train": JobType(train.create, train.shown),
    "evaluate": JobType(evaluate.create, evaluate.shown),
}


def create(session: Session, blobs: BlobStore, settings: Settings, project_id: str, body: NewJob) -> Job:
    """The queued job, or the problem that keeps it from running."""
    return TYPES[body.type].create(session, blobs, settings, project_id, body)


def shown(session: Session, job: Job, done: int | None = None) -> AnyJobOut:
    """The job as clients see it; `done` spares the query of its progress where it is known."""
    return TYPES[job.type].shown(session, job, done)
