"""What comes of jobs: scores, verdicts, decisions, selections and exports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.tables.base import Base, Resource


def _falling(column: str) -> Index:
    """An index by this column from the greatest value down, of the rows that have one."""
    there = text(f"{column} IS NOT NULL")
    name, falls = f"ix_scores_{column}", text(f"{column} DESC")
    return Index(name, "job_id", falls, "sample_index", postgresql_where=there, sqlite_where=there)


class Score(Base):
    """One training sample's score in one job, clustered by job on SQLite.

    On PostgreSQL the `large` jobs have a partition each, the others share one (`app.store.partitions`).
    """

    __tablename__ = "scores"
    __table_args__ = (
        Index(None, "job_id", "rank"),
        Index(None, "job_id", "score", "sample_index"),
        _falling("suspicion"),
        _falling("self_influence"),
        {"postgresql_partition_by": "LIST (large)", "sqlite_with_rowid": False},
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    sample_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    large: Mapped[bool] = mapped_column(primary_key=True)
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


class ScoreColumns(Base):
    """The numbers of a job's scores once more, as a file by column: what `app.store.columns` reads."""

    __tablename__ = "score_columns"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    blob: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class Evaluation(Base):
    """What each retraining of a job that evaluates showed, as a file of JSON."""

    __tablename__ = "evaluations"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    blob: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class Decision(Base):
    """What somebody, told by his key, decided about one sample of a job."""

    __tablename__ = "decisions"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    sample_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True)
    action: Mapped[str]
    label: Mapped[float | None]
    updated_at: Mapped[datetime]


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
