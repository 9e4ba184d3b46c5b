"""Trajectories and their checkpoints: validating → ready | invalid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import work
from app.store.blobs import BlobStore
from app.store.db import new_id
from app.store.tables import Checkpoint, Trajectory


def create(session: Session, **values: Any) -> Trajectory:
    trajectory = Trajectory(id=new_id("tr"), **values)
    session.add(trajectory)
    return trajectory


def get(session: Session, project_id: str, trajectory_id: str) -> Trajectory | None:
    return session.scalar(
        select(Trajectory).where(Trajectory.id == trajectory_id, Trajectory.project_id == project_id)
    )


def locked(session: Session, project_id: str, trajectory_id: str) -> Trajectory | None:
    """The trajectory with its row locked: who freezes its checkpoints in a job waits for who deletes one."""
    return session.scalar(
        select(Trajectory)
        .where(Trajectory.id == trajectory_id, Trajectory.project_id == project_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def checkpoint(session: Session, trajectory: Trajectory, checkpoint_id: str) -> Checkpoint | None:
    return session.scalar(
        select(Checkpoint).where(Checkpoint.id == checkpoint_id, Checkpoint.trajectory_id == trajectory.id)
    )


def delete(session: Session, blobs: BlobStore, trajectory: Trajectory) -> None:
    """Removes the trajectory with its checkpoints. The caller has checked that no job names it."""
    for checkpoint in list(trajectory.checkpoints):
        delete_checkpoint(session, blobs, checkpoint)
    session.flush()
    session.delete(trajectory)


def checkpoint_at(session: Session, trajectory_id: str, step: int) -> Checkpoint | None:
    """The checkpoint at this step, unless it was found invalid."""
    return session.scalar(
        select(Checkpoint).where(
            Checkpoint.trajectory_id == trajectory_id, Checkpoint.step == step, Checkpoint.status != "invalid"
        )
    )


def add_checkpoint(session: Session, trajectory: Trajectory, blob: str, **values: Any) -> Checkpoint:
    """A checkpoint to be validated by a worker."""
    checkpoint = Checkpoint(
        id=new_id("ck"), trajectory_id=trajectory.id, status="validating", blob=blob, sha256=blob, **values
    )
    session.add(checkpoint)
    session.flush()
    work.add(session, "validate", checkpoint.id)
    return checkpoint


def ready(
    session: Session, blobs: BlobStore, checkpoint: Checkpoint, info: dict[str, Any], staged: Path
) -> None:
    """The worker accepted the file: keep its canonical form only."""
    source, checkpoint.blob = checkpoint.blob, blobs.keep(session, staged)
    checkpoint.status, checkpoint.info = "ready", info
    if source != checkpoint.blob:
        blobs.forget(session, source)
    work.drop(session, checkpoint.id)


def invalid(session: Session, blobs: BlobStore, checkpoint: Checkpoint, error: dict[str, Any]) -> None:
    """The worker refused the file: keep the reason, not the bytes."""
    source, checkpoint.blob = checkpoint.blob, None
    checkpoint.status, checkpoint.error = "invalid", error
    blobs.forget(session, source)
    work.drop(session, checkpoint.id)


def delete_checkpoint(session: Session, blobs: BlobStore, checkpoint: Checkpoint) -> None:
    work.drop(session, checkpoint.id)
    session.refresh(checkpoint, with_for_update=True)  # a worker may just have named another blob
    session.delete(checkpoint)
    blobs.forget(session, checkpoint.blob)


def in_order(session: Session, checkpoint_ids: Sequence[str]) -> list[Checkpoint]:
    """The named checkpoints by step."""
    return list(
        session.scalars(select(Checkpoint).where(Checkpoint.id.in_(checkpoint_ids)).order_by(Checkpoint.step))
    )
