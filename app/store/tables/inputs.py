"""What is sent: data sets, trajectories and their files, uploads in parts, and the blobs below them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.store.db import utcnow
from app.store.tables.base import Base, Named, Resource


class Blob(Base):
    """Bytes kept once by their digest. `location` is never used twice, so deleting one is safe."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    location: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Dataset(Resource, Base):
    """`source_blob` is the file as it came, while `validating`. Until it has been fetched from its `uri`, it
    has no digest and 0 bytes."""

    __tablename__ = "datasets"
    __table_args__ = (Index(None, "project_id", "id"),)

    status: Mapped[str]
    format: Mapped[str]
    filename: Mapped[str]
    uri: Mapped[str | None]
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
    files: Mapped[list[TrajectoryFile]] = relationship(
        order_by="TrajectoryFile.role", viewonly=True, lazy="selectin"
    )


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


class Checkpoint(Named, Uploaded, Base):
    """Until it has been fetched from its `uri`, it has no digest and 0 bytes."""

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
    uri: Mapped[str | None]
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
