"""Jobs: what is asked, the units of work it takes, and what happened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.store.db import utcnow
from app.store.tables.base import Base, Resource


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
    """A leased unit of work, for a project. `waits_for` names the stage of the same subject that must be done
    first, or the other subject (a trajectory's files, a message) that must be. Nobody takes it before
    `due_at`. `context` tells which request it comes from."""

    __tablename__ = "work"
    __table_args__ = (
        Index(None, "status", "lease_expires_at"),
        Index(None, "status", "rung_at"),
        Index(None, "subject", "status", "stage"),
        Index(None, "queue", "status", "due_at"),
        Index(None, "queue", "status", "project_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    stage: Mapped[str]
    subject: Mapped[str]
    project_id: Mapped[str]
    queue: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    status: Mapped[str]
    waits_for: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=1)
    failures: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[float | None]
    rung_at: Mapped[float | None]
    due_at: Mapped[float | None]
    context: Mapped[dict[str, Any] | None]
    completed: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int] = mapped_column(BigInteger, default=0)
    result: Mapped[dict[str, Any] | None]
    result_blob: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Turn(Base):
    """When a worker last took something up for a project, a job or a selection, by the database's clock."""

    __tablename__ = "turns"

    whose: Mapped[str] = mapped_column(primary_key=True)
    served_at: Mapped[float]


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
