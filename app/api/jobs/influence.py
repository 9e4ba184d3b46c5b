"""Jobs of type `influence`: which training samples raised or lowered the query loss."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy.orm import Session

from app.api.admission import Admitted, admit
from app.api.jobs.resource import RUNNING, JobFields, JobIn, fields
from app.api.resources import INT64, NO_NUL, Body, Id
from app.api.suitability import check_size
from app.catalog import DiffIn, Method
from app.catalog.base import refusal
from app.settings import Settings
from app.store import jobs
from app.store.blobs import BlobStore
from app.store.tables import Job

MOST_TRAJECTORIES = 32
EXAMPLE: dict[str, Any] = {
    "type": "influence",
    "trajectory_id": "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "train_dataset_id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "query_dataset_id": "ds_0197f4e7-1a2b-7c5e-9c4f-3f1f2d1f6a52",
    "method": {"name": "diff_in"},
    "seed": 0,
    "name": "what hurts run 7?",
    "metadata": {"git": "abc123"},
}
AVERAGED: dict[str, Any] = {
    "type": "influence",
    "trajectory_ids": [
        "tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
        "tr_0197f4e6-3c1d-7c5e-9c4f-3f1f2d1f6a52",
    ],
    "train_dataset_id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "query_dataset_id": "ds_0197f4e7-1a2b-7c5e-9c4f-3f1f2d1f6a52",
    "method": {"name": "diff_in", "resolution": "tail", "parameters": {"include": ["layers.1.*"]}},
}


LabelName = Annotated[str, StringConstraints(strict=True, min_length=1, pattern=NO_NUL)]


class QueryPart(Body):
    """Part of the query data set: the samples of these `labels`, or these `indices`, each once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"labels": [2, "horse"]}, {"indices": [0, 7]}]})

    labels: list[Annotated[int, Field(ge=-INT64, le=INT64)] | LabelName] | None = Field(
        None, min_length=1, description="Numbers, or the names that the data set's `classes` tell."
    )
    indices: list[Annotated[int, Field(ge=0, le=INT64)]] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.labels is None) == (self.indices is None):
            raise refusal("give labels or indices, one of them.")
        if self.indices is not None and len(set(self.indices)) < len(self.indices):
            raise refusal("an index stands more than once in indices.")
        return self


class InfluenceJobIn(JobIn):
    """What to compute, from what."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE, AVERAGED]})

    type: Literal["influence"]
    trajectory_id: Id | None = None
    trajectory_ids: list[Id] | None = Field(
        None,
        min_length=1,
        max_length=MOST_TRAJECTORIES,
        description="In place of `trajectory_id`: runs of one network, whose scores are averaged.",
    )
    train_dataset_id: Id
    query_dataset_id: Id | None = Field(None, description="May be left out by methods that need none.")
    query: QueryPart | None = Field(None, description="Part of the query data set; all of it if null.")
    method: Method = DiffIn(name="diff_in")
    seed: int = Field(0, ge=0, le=INT64)

    @model_validator(mode="after")
    def _runs(self) -> Self:
        if (self.trajectory_id is None) == (self.trajectory_ids is None):
            raise refusal("give exactly one of trajectory_id and trajectory_ids.")
        if self.trajectory_ids and len(set(self.trajectory_ids)) < len(self.trajectory_ids):
            raise refusal("a trajectory stands more than once in trajectory_ids.")
        return self

    @property
    def trajectories(self) -> dict[str, str]:
        """The ids by the field that names each."""
        if self.trajectory_id is not None:
            return {"/trajectory_id": self.trajectory_id}
        return {f"/trajectory_ids/{at}": one for at, one in enumerate(self.trajectory_ids or [])}


class InfluenceJobOut(JobFields):
    """A job that scores. `method` holds every option, defaults filled in."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "query": None,
                    "trajectory_ids": ["tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"],
                    "checkpoint_ids": ["ck_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"],
                    "progress": {
                        "completed": 20000,
                        "total": 60000,
                        "unit": "forward_passes",
                        "message": "scoring",
                    },
                    **RUNNING,
                    **EXAMPLE,
                }
            ]
        }
    )

    type: Literal["influence"]
    trajectory_ids: list[str]
    query: dict[str, Any] | None
    method: dict[str, Any]
    checkpoint_ids: list[str]


def admitted(
    session: Session, blobs: BlobStore, settings: Settings, project_id: str, body: InfluenceJobIn
) -> Admitted:
    """The body's inputs, or the problem that keeps it from running."""
    inputs = admit(
        session,
        blobs,
        project_id,
        trajectories=body.trajectories,
        train_id=body.train_dataset_id,
        query_id=body.query_dataset_id,
        labels=body.query.labels if body.query else None,
        indices=body.query.indices if body.query else None,
        method=body.method,
        memory_bytes=settings.memory_bytes,
    )
    check_size(session, settings, inputs.train)
    return inputs


def create(
    session: Session, blobs: BlobStore, settings: Settings, project_id: str, body: InfluenceJobIn
) -> Job:
    """Checks that the inputs fit each other, fixes the checkpoints as they are now, and queues the job."""
    inputs = admitted(session, blobs, settings, project_id, body)
    return jobs.create(
        session,
        project_id=project_id,
        meta=body.metadata,
        checkpoint_ids=[one.id for one in inputs.checkpoints],
        query=body.query.model_dump(exclude_none=True) if body.query else None,
        trajectory_ids=list(body.trajectories.values()),
        **body.model_dump(exclude={"metadata", "query", "trajectory_id", "trajectory_ids"}),
    )


def shown(session: Session, job: Job, done: int | None = None) -> InfluenceJobOut:
    """The job as clients see it."""
    own = {
        name: getattr(job, name) for name in ("type", "trajectory_ids", "query", "method", "checkpoint_ids")
    }
    return InfluenceJobOut(**fields(session, job, done), **own)
