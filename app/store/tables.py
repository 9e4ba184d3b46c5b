"""The tables. States change only in `jobs.py`, `work.py`, `datasets.py`, `trajectories.py`, `selections.py`
and `exports.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from app.store.db import Json, Utc, utcnow

TERMINAL_EVENTS = ("job.succeeded", "job.failed", "job.cancelled")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it off the class)
        str: String,
        float: Double,
        datetime: Utc,
        dict[str, Any]: Json,
        list[Any]: Json,
    }


class ApiKey(Base):
    """A key's digest, never the key: shown once, compared in constant time."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Blob(Base):
    """Bytes kept once by their digest. `location` is never used twice, so deleting one is safe."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    location: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Resource:
    """What every resource of the API carries."""

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    notes: Mapped[str] = mapped_column(Text, default="")
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", Json, default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Dataset(Resource, Base):
    __tablename__ = "datasets"
    __table_args__ = (Index(None, "project_id", "id"),)

    status: Mapped[str]
    format: Mapped[str]
    filename: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    source_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    inputs_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    targets_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    ids_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    shown_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    tokenizer_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    num_samples: Mapped[int | None] = mapped_column(BigInteger)
    num_classes: Mapped[int | None]
    info: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[dict[str, Any] | None]


class Trajectory(Resource, Base):
    __tablename__ = "trajectories"
    __table_args__ = (Index(None, "project_id", "id"),)

    architecture: Mapped[dict[str, Any]]
    task: Mapped[dict[str, Any]]
    preprocessing: Mapped[dict[str, Any]]
    optimizer: Mapped[dict[str, Any]]
    recipe: Mapped[dict[str, Any] | None]
    batch_size: Mapped[int | None]
    train_size: Mapped[int | None] = mapped_column(BigInteger)
    total_steps: Mapped[int | None] = mapped_column(BigInteger)
    checkpoints: Mapped[list[Checkpoint]] = relationship(
        order_by="Checkpoint.step, Checkpoint.id", viewonly=True
    )
    batch_order: Mapped[BatchOrder | None] = relationship(viewonly=True)
    files: Mapped[list[TrajectoryFile]] = relationship(order_by="TrajectoryFile.role", viewonly=True)


class Uploaded:
    """A file of a trajectory: `blob` is what came in while `validating`, then its canonical form."""

    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    filename: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    info: Mapped[dict[str, Any]] = mapped_column(default=dict)
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Checkpoint(Uploaded, Base):
    __tablename__ = "checkpoints"
    __table_args__ = (
        Index(
            "uq_checkpoints_trajectory_id_step",
            "trajectory_id",
            "step",
            unique=True,
            sqlite_where=text("status <> 'invalid'"),
            postgresql_where=text("status <> 'invalid'"),
        ),
    )

    trajectory_id: Mapped[str] = mapped_column(ForeignKey("trajectories.id"), index=True)
    step: Mapped[int] = mapped_column(BigInteger)
    learning_rate: Mapped[float | None]
    learning_rates: Mapped[list[Any] | None]
    optimizer_file: Mapped[dict[str, Any] | None]
    optimizer_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class BatchOrder(Uploaded, Base):
    """Which samples each step's batch held."""

    __tablename__ = "batch_orders"

    trajectory_id: Mapped[str] = mapped_column(ForeignKey("trajectories.id"), unique=True)


class TrajectoryFile(Uploaded, Base):
    """What the network is, in a file (its graph, say), by `role`. Checkpoints wait for all of them."""

    __tablename__ = "trajectory_files"
    __table_args__ = (Index(None, "trajectory_id", "role", unique=True),)

    trajectory_id: Mapped[str] = mapped_column(ForeignKey("trajectories.id"))
    role: Mapped[str]


class Job(Resource, Base):
    """A job of some `type`. Influence jobs have a `method`; others keep what they were asked in `request`."""

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "project_id", "id"),)

    type: Mapped[str]
    status: Mapped[str]
    train_dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    query_dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    query: Mapped[dict[str, Any] | None]
    method: Mapped[dict[str, Any]] = mapped_column(default=dict)
    request: Mapped[dict[str, Any] | None]
    seed: Mapped[int] = mapped_column(BigInteger)
    checkpoint_ids: Mapped[list[Any]]
    plan: Mapped[dict[str, Any] | None]
    attempt: Mapped[int] = mapped_column(default=1)
    completed: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int] = mapped_column(BigInteger, default=0)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    influences_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    ranked_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    runs: Mapped[list[JobTrajectory]] = relationship(
        order_by="JobTrajectory.position", lazy="selectin", cascade="all, delete-orphan"
    )

    @property
    def trajectory_ids(self) -> list[str]:
        return [run.trajectory_id for run in self.runs]

    @property
    def trajectory_id(self) -> str | None:
        """The trajectory of a job over one; None for a job over several."""
        return self.runs[0].trajectory_id if len(self.runs) == 1 else None


class JobTrajectory(Base):
    """One of the trajectories that a job averages, in the order given."""

    __tablename__ = "job_trajectories"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    trajectory_id: Mapped[str] = mapped_column(ForeignKey("trajectories.id"), index=True)


class Evaluation(Base):
    """What each retraining of a job that evaluates showed, as a file of JSON."""

    __tablename__ = "evaluations"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    blob: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class TrainingState(Base):
    """The state after `step` steps of a job that trains: a checkpoint to be, or where more steps begin."""

    __tablename__ = "training_states"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kept: Mapped[bool]
    blob: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    optimizer_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    optimizer_file: Mapped[dict[str, Any] | None]
    info: Mapped[dict[str, Any]]


class Work(Base):
    """A leased unit of work. `waits_for` names the stage of the same subject that must be done first, or the
    trajectory whose files must be."""

    __tablename__ = "work"
    __table_args__ = (
        Index(None, "status", "lease_expires_at"),
        Index(None, "status", "rung_at"),
        Index(None, "subject", "status", "stage"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    stage: Mapped[str]
    subject: Mapped[str]
    queue: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    status: Mapped[str]
    waits_for: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=1)
    failures: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[float | None]
    rung_at: Mapped[float | None]
    completed: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int] = mapped_column(BigInteger, default=0)
    result: Mapped[dict[str, Any] | None]
    result_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Event(Base):
    """What happened to a resource, in order: the source of the event stream."""

    __tablename__ = "events"
    __table_args__ = (
        Index(None, "subject", "id"),
        Index(
            "uq_events_one_terminal",
            "subject",
            unique=True,
            sqlite_where=text("terminal"),
            postgresql_where=text("terminal"),
        ),
    )

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), Identity(always=False), primary_key=True
    )
    subject: Mapped[str]
    type: Mapped[str]
    terminal: Mapped[bool] = mapped_column(default=False)
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Score(Base):
    """One training sample's score in one job: clustered by job (SQLite), a partition each (PostgreSQL)."""

    __tablename__ = "scores"
    __table_args__ = (
        Index(None, "job_id", "rank"),
        Index(None, "job_id", "score", "sample_index"),
        Index(None, "job_id", "suspicion", "sample_index"),
        {"postgresql_partition_by": "LIST (job_id)", "sqlite_with_rowid": False},
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    sample_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    sample_id: Mapped[str | None]
    score: Mapped[float]
    rank: Mapped[int] = mapped_column(BigInteger)
    self_influence: Mapped[float | None]
    label: Mapped[float | None]
    predicted_label: Mapped[float | None]
    loss: Mapped[float]
    contributions: Mapped[bytes] = mapped_column(LargeBinary)
    losses: Mapped[bytes] = mapped_column(LargeBinary)
    standard_error: Mapped[float | None]
    suspicion: Mapped[float | None]


class Selection(Resource, Base):
    """What to do about a job's scores: the samples to act on, chosen by a worker."""

    __tablename__ = "selections"
    __table_args__ = (Index(None, "project_id", "id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    type: Mapped[str]
    status: Mapped[str]
    request: Mapped[dict[str, Any]]
    num_samples: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int | None] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(BigInteger, default=0)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]


class SelectionFile(Base):
    """A file of a selection, by `role`: "rows" are its samples, as `app.store.chosen` has them."""

    __tablename__ = "selection_files"

    selection_id: Mapped[str] = mapped_column(ForeignKey("selections.id"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    blob: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class Export(Resource, Base):
    """A file of all the rows of a job's scores, or of a selection from them, kept until `expires_at`."""

    __tablename__ = "exports"
    __table_args__ = (Index(None, "project_id", "id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    selection_id: Mapped[str | None] = mapped_column(ForeignKey("selections.id"), index=True)
    format: Mapped[str]
    ordered_by: Mapped[str]
    status: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)
    blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    error: Mapped[dict[str, Any] | None]


class Upload(Resource, Base):
    """A file that comes in parts. `sha256` is as announced, and as it is once `blob` holds it."""

    __tablename__ = "uploads"
    __table_args__ = (Index(None, "project_id", "id"),)

    status: Mapped[str]
    filename: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    part_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UploadPart(Base):
    """A part of an upload that is there, whole."""

    __tablename__ = "upload_parts"

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]


class IdempotencyKey(Base):
    """The first answer to a POST, replayed to the same key and body; no status code while in flight."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status_code: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[float]


class Worker(Base):
    """A live worker's heartbeat: what readyz and capabilities report."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[Any]]
    device: Mapped[str]
    version: Mapped[str]
    seen_at: Mapped[float]
