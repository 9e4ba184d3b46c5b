"""Trajectories and their files: validating → ready | invalid.

A file with a role tells what the network is (its graph, say). A checkpoint can be held against the network
only then, so its validation waits for all files of its trajectory, and is refused where one of them is.
Whoever changes the state of such a file holds the trajectory's row lock, as whoever adds a checkpoint does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import fetching, webhooks, work
from app.store.blobs import BlobStore
from app.store.db import new_id
from app.store.fetching import Wanted
from app.store.tables import BatchOrder, Checkpoint, Trajectory, TrajectoryFile

COPIED = ("role", "status", "filename", "bytes", "sha256", "blob", "info")
File = TypeVar("File", Checkpoint, BatchOrder, TrajectoryFile)


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
    for one in list(trajectory.files):
        _delete(session, blobs, one)
    session.flush()
    session.delete(trajectory)


def checkpoint_at(session: Session, trajectory_id: str, step: int) -> Checkpoint | None:
    """The checkpoint at this step, unless it was found invalid."""
    return session.scalar(
        select(Checkpoint).where(
            Checkpoint.trajectory_id == trajectory_id, Checkpoint.step == step, Checkpoint.status != "invalid"
        )
    )


def add_checkpoint(
    session: Session,
    trajectory: Trajectory,
    blob: str,
    *,
    wanted: Mapping[str, Wanted] | None = None,
    **values: Any,
) -> Checkpoint:
    """A checkpoint to be validated by a worker, once the trajectory's files are ready.

    The caller holds the trajectory's lock and has checked that none of its files was refused.

    Args:
        blob: its file; empty where that is among those `wanted`, which are fetched in between.
    """
    row = Checkpoint(id=new_id("ck"), trajectory_id=trajectory.id, status="validating", **values)
    row.blob, row.sha256 = blob or None, blob
    waits = any(file.status == "validating" for file in files(session, trajectory.id))
    awaited = trajectory.id if waits else None
    awaited = fetching.queue(session, row.id, trajectory.project_id, wanted or {}, awaited) or awaited
    return _validated(session, row, waits_for=awaited)


def add_file(session: Session, trajectory: Trajectory, role: str, blob: str, **values: Any) -> TrajectoryFile:
    """A file of a new trajectory, to be validated by a worker."""
    file = TrajectoryFile(
        id=new_id("tf"),
        trajectory_id=trajectory.id,
        role=role,
        status="validating",
        blob=blob,
        sha256=blob,
        **values,
    )
    return _validated(session, file)


def network_known(session: Session, trajectory_id: str, config: dict[str, Any]) -> None:
    """Notes what a worker read of the network. The caller holds the trajectory's lock."""
    trajectory = session.get_one(Trajectory, trajectory_id)
    trajectory.architecture = trajectory.architecture | {"config": config}


def files(session: Session, trajectory_id: str) -> Sequence[TrajectoryFile]:
    """The files of a trajectory as they are now, by role."""
    query = select(TrajectoryFile).where(TrajectoryFile.trajectory_id == trajectory_id)
    query = query.order_by(TrajectoryFile.role).execution_options(populate_existing=True)
    return session.scalars(query).all()


def copy_files(session: Session, source_id: str, trajectory: Trajectory) -> None:
    """Gives a new trajectory the files of another, all of which are ready."""
    for one in files(session, source_id):
        alike = {
            name: getattr(one, name)
            for name in ("role", "status", "filename", "bytes", "sha256", "blob", "info")
        }
        session.add(TrajectoryFile(id=new_id("tf"), trajectory_id=trajectory.id, **alike))


def file(session: Session, trajectory_id: str, role: str) -> TrajectoryFile | None:
    """The file of a trajectory in this role."""
    return next((one for one in files(session, trajectory_id) if one.role == role), None)


def lock_owner(session: Session, subject: str) -> None:
    """Locks the trajectory that the file `subject` belongs to, if it is the id of one.

    To be done before the file's unit of work is touched: who deletes the trajectory locks in that order.
    """
    owner = select(TrajectoryFile.trajectory_id).where(TrajectoryFile.id == subject)
    session.execute(select(Trajectory.id).where(Trajectory.id.in_(owner)).with_for_update())


def set_order(
    session: Session, blobs: BlobStore, trajectory: Trajectory, staged: Path, sha256: str, **values: Any
) -> BatchOrder:
    """The order of the trajectory's batches, to be validated by a worker; one sent before it is forgotten.

    The caller holds the trajectory's lock and has checked that no unfinished job reads the one before.
    """
    if trajectory.batch_order is not None:
        delete_order(session, blobs, trajectory.batch_order)
    blob = blobs.keep(session, staged, sha256)
    order = BatchOrder(
        id=new_id("bo"), trajectory_id=trajectory.id, status="validating", blob=blob, sha256=blob, **values
    )
    return _validated(session, order)


def _validated(session: Session, row: File, *, waits_for: str | None = None) -> File:
    session.add(row)
    session.flush()
    project_id = session.get_one(Trajectory, row.trajectory_id).project_id
    work.add(session, "validate", row.id, project_id, waits_for=waits_for)
    return row


def ready(session: Session, blobs: BlobStore, row: File, info: dict[str, Any], staged: Path) -> None:
    """The worker accepted the file: keep its canonical form only.

    Once it was the last file that tells of the network, the checkpoints that waited for it are queued.
    """
    source, row.blob = row.blob, blobs.keep(session, staged)
    row.status, row.info = "ready", info
    if source != row.blob:
        blobs.forget(session, source)
    work.drop(session, row.id)
    _tell(session, row)
    if isinstance(row, TrajectoryFile):
        session.flush()
        if all(one.status == "ready" for one in files(session, row.trajectory_id)):
            work.release_from(session, row.trajectory_id)


def keep_state(
    session: Session, blobs: BlobStore, checkpoint: Checkpoint, staged: Path, state: Sequence[str]
) -> None:
    """The worker accepted the optimizer's `state` as well: keep its canonical form only."""
    source, checkpoint.optimizer_blob = checkpoint.optimizer_blob, blobs.keep(session, staged)
    checkpoint.optimizer_file = (checkpoint.optimizer_file or {}) | {"state": list(state)}
    if source != checkpoint.optimizer_blob:
        blobs.forget(session, source)


def invalid(session: Session, blobs: BlobStore, row: File, error: dict[str, Any]) -> None:
    """The worker refused the file: keep the reason, not the bytes. What waited for it is refused as well."""
    sources, row.blob = [row.blob], None
    if isinstance(row, Checkpoint):
        sources.append(row.optimizer_blob)
        row.optimizer_blob = None
    row.status, row.error = "invalid", error
    blobs.forget(session, *sources)
    work.drop(session, row.id)
    _tell(session, row)
    if isinstance(row, TrajectoryFile):
        for checkpoint_id in work.waiting_for(session, row.trajectory_id):
            waiting = session.get_one(Checkpoint, checkpoint_id)
            invalid(session, blobs, waiting, refused_with(row))


def _tell(session: Session, row: BatchOrder | Checkpoint | TrajectoryFile) -> None:
    if isinstance(row, Checkpoint):
        project_id = session.get_one(Trajectory, row.trajectory_id).project_id
        told = {"id": row.id, "status": row.status, "trajectory_id": row.trajectory_id, "step": row.step}
        webhooks.emit(session, project_id, f"checkpoint.{row.status}", told)


def verdict(
    trajectory: Trajectory,
) -> tuple[Literal["validating", "ready", "invalid"], dict[str, Any] | None]:
    """What the files that tell of the network make of a trajectory: (status, error where it is invalid).

    Without such files its name and config tell all, and it is ready. Checkpoints and the batch order have a
    status of their own: one that was refused is sent again.
    """
    for one in trajectory.files:
        if one.status == "invalid":
            return "invalid", refused_with(one)
    waits = any(one.status == "validating" for one in trajectory.files)
    return ("validating" if waits else "ready"), None


def refused_with(file: TrajectoryFile) -> dict[str, Any]:
    """Why nothing can be held against the network that a refused file should have told of."""
    error = file.error or {}
    detail = (
        f"The trajectory's {file.role} file was refused, so that its checkpoints cannot be checked: "
        f"{error.get('detail', '')} Describe the run as another trajectory, with a sound file."
    )
    return error | {
        "type": f"https://diffin.dev/problems/invalid_{file.role}",
        "title": f"The trajectory's {file.role} file was refused",
        "code": f"invalid_{file.role}",
        "detail": detail,
        "errors": [],
    }


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
    _delete(session, blobs, order)


def _delete(session: Session, blobs: BlobStore, row: BatchOrder | TrajectoryFile) -> None:
    work.drop(session, row.id)
    session.refresh(row, with_for_update=True)
    session.delete(row)
    blobs.forget(session, row.blob)


def in_order(session: Session, checkpoint_ids: Sequence[str]) -> list[Checkpoint]:
    """The named checkpoints, in the order they are named."""
    found = session.scalars(select(Checkpoint).where(Checkpoint.id.in_(checkpoint_ids)))
    by_id = {row.id: row for row in found}
    return [by_id[name] for name in checkpoint_ids if name in by_id]
