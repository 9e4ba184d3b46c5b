"""Jobs of type `train`: the service trains a network on a data set and records the run."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.api.jobs.resource import fields
from app.api.jobs.train_admission import admit
from app.api.jobs.train_body import TrainJobIn, TrainJobOut
from app.settings import Settings
from app.store import jobs
from app.store.blobs import BlobStore
from app.store.tables import Job


def create(session: Session, blobs: BlobStore, settings: Settings, project_id: str, body: TrainJobIn) -> Job:
    """Checks that network, data and recipe fit each other, and queues the job."""
    asked = admit(session, project_id, body)
    used = asked.rates_from or ([asked.start] if asked.start is not None else [])
    return jobs.create(
        session,
        type="train",
        project_id=project_id,
        trajectory_ids=[asked.source.id] if asked.source is not None else [],
        checkpoint_ids=[one.id for one in used],
        train_dataset_id=body.train_dataset_id,
        query_dataset_id=body.query_dataset_id,
        seed=body.seed or 0,
        name=body.name,
        notes=body.notes,
        meta=body.metadata,
        request={
            "architecture": asked.described.architecture,
            "task": asked.described.task,
            "preprocessing": asked.described.preprocessing,
            "recipe": asked.recipe.model_dump(),
            "checkpoints": asked.kept,
            "total_steps": asked.total,
            "seed": body.seed,
            "start": asked.start.id if asked.start is not None else None,
        },
    )


def shown(session: Session, job: Job, done: int | None = None) -> TrainJobOut:
    """The job as clients see it."""
    return TrainJobOut(**fields(session, job, done) | {"type": job.type} | (job.request or {}))
