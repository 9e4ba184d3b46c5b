"""Trajectories and their checkpoints: validating → ready | invalid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import work
from app.store.blobs import BlobStore
from app.store.db import new_id
from app.store.tables import BatchOrder, Checkpoint, Trajectory

File = TypeVar("File", Checkpoint, BatchOrder)


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
    if trajectory.batch_order is not None:
        delete_order(session, blobs, trajectory.batch_order)
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
    return _validated(session, checkpoint)


def set_order(
    session: Session, blobs: BlobStore, trajectory: Trajectory, blob: str, **values: Any
) -> BatchOrder:
    """The order of the trajectory's batches, to be validated by a worker; one sent before it is forgotten.

    The caller holds the trajectory's lock and has checked that no unfinished job reads the one before.
    """
    if trajectory.batch_order is not None:
        delete_order(session, blobs, trajectory.batch_order)
    order = BatchOrder(
        id=new_id("bo"), trajectory_id=trajectory.id, status="validating", blob=blob, sha256=blob, **values
    )
    return _validated(session, order)


def _validated(session: Session, row: File) -> File:
    session.add(row)
    session.flush()
    work.add(session, "validate", row.id)
    return row


def ready(session: Session, blobs: BlobStore, row: File, info: dict[str, Any], staged: Path) -> None:
    """The worker accepted the file: keep its canonical form only."""
    source, row.blob = row.blob, blobs.keep(session, staged)
    row.status, row.info = "ready", info
    if source != row.blob:
        blobs.forget(session, source)
    work.drop(session, row.id)


def keep_state(
    session: Session, blobs: BlobStore, checkpoint: Checkpoint, staged: Path, state: Sequence[str]
) -> None:
    """The worker accepted the optimizer's `state` as well: keep its canonical form only."""
    source, checkpoint.optimizer_blob = checkpoint.optimizer_blob, blobs.keep(session, staged)
    checkpoint.optimizer_file = (checkpoint.optimizer_file or {}) | {"state": list(state)}
    if source != checkpoint.optimizer_blob:
        blobs.forget(session, source)


def invalid(session: Session, blobs: BlobStore, row: File, error: dict[str, Any]) -> None:
    """The worker refused the file: keep the reason, not the bytes."""
    sources, row.blob = [row.blob], None
    if isinstance(row, Checkpoint):
        sources.append(row.optimizer_blob)
        row.optimizer_blob = None
    row.status, row.error = "invalid", error
    blobs.forget(session, *sources)
    work.drop(session, row.id)


def delete_checkpoint(session: Session, blobs: BlobStore, checkpoint: Checkpoint) -> None:
    work.drop(session, checkpoint.id)
    session.refresh(checkpoint, with_for_update=True)  # a worker may just have named another blob
    session.delete(checkpoint)
    blobs.forget(session, checkpoint.blob, checkpoint.optimizer_blob)


def order_source(trajectory: Trajectory, num_train: int) -> Literal["file", "seed"] | None:
    """Where the order of the batches is known from; None where it is not.

    A seed tells it only of the whole training set of `num_train` samples.
    """
    if trajectory.batch_order is not None:
        return "file"
    recipe = trajectory.recipe or {}
    whole = trajectory.train_size in (None, num_train)
    some = not recipe.get("drop_last") or recipe["batch_size"] <= num_train
    return "seed" if recipe.get("seed") is not None and whole and some else None


def delete_order(session: Session, blobs: BlobStore, order: BatchOrder) -> None:
    work.drop(session, order.id)
    session.refresh(order, with_for_update=True)
    session.delete(order)
    blobs.forget(session, order.blob)


def in_order(session: Session, checkpoint_ids: Sequence[str]) -> list[Checkpoint]:
    """The named checkpoints, in the order they are named."""
    found = session.scalars(select(Checkpoint).where(Checkpoint.id.in_(checkpoint_ids)))
    by_id = {row.id: row for row in found}
    return [by_id[name] for name in checkpoint_ids if name in by_id]
