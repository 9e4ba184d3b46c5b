"""What a job that trains has kept so far, and the trajectory that becomes of it at the end.

The states lie in rows of the job, which nobody else sees: a run that fails or is cancelled leaves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store import trajectories
from app.store.blobs import BlobStore
from app.store.db import new_id
from app.store.tables import Checkpoint, TrainingState, Trajectory


class Written(NamedTuple):
    """A state as staged files: the tensors, and what the optimizer carries, if anything.

    Attributes:
        kept: whether it is to be a checkpoint.
        carried: the names of what is in `optimizer`.
        info: of the checkpoint that it may become.
    """

    step: int
    kept: bool
    tensors: Path
    optimizer: Path | None
    carried: Sequence[str]
    info: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        return [self.tensors] if self.optimizer is None else [self.tensors, self.optimizer]


def keep(session: Session, blobs: BlobStore, job_id: str, state: Written) -> None:
    """Keeps a state of the job; the caller finishes its unit of work in the same transaction."""
    size = state.tensors.stat().st_size
    carried = None
    if state.optimizer is not None:
        name = f"{state.step}.optimizer.safetensors"
        carried = {"filename": name, "bytes": state.optimizer.stat().st_size, "state": list(state.carried)}
    blob = blobs.keep(session, state.tensors)
    optimizer = blobs.keep(session, state.optimizer) if state.optimizer is not None else None
    session.add(
        TrainingState(
            job_id=job_id,
            step=state.step,
            kept=state.kept,
            blob=blob,
            bytes=size,
            optimizer_blob=optimizer,
            optimizer_file=carried and carried | {"sha256": optimizer},
            info=state.info,
        )
    )


def state_at(session: Session, job_id: str, step: int) -> TrainingState:
    """The state after `step` steps; raises NoResultFound where it is not kept (any more)."""
    return session.get_one(TrainingState, (job_id, step))


def pass_by(session: Session, blobs: BlobStore, job_id: str, step: int) -> None:
    """Forgets the state at `step`, which later ones have taken over from, unless it is a checkpoint to be."""
    state = state_at(session, job_id, step)
    if not state.kept:
        _forget(session, blobs, [state])


def kept(session: Session, job_id: str) -> Sequence[TrainingState]:
    """The checkpoints to be, by step."""
    query = select(TrainingState).where(TrainingState.job_id == job_id, TrainingState.kept)
    return session.scalars(query.order_by(TrainingState.step)).all()


def record(
    session: Session,
    blobs: BlobStore,
    job_id: str,
    rates: Sequence[float],
    *,
    source: str | None,
    run: Mapping[str, Any],
) -> Trajectory:
    """A trajectory of the kept states, each a ready checkpoint; the job has no states after it.

    Args:
        rates: the learning rate of each step.
        source: the trajectory whose files tell of the network, if there is one.
        run: the new trajectory's own columns.
    """
    trajectory = trajectories.create(session, **run)
    session.flush()
    if source is not None:
        trajectories.copy_files(session, source, trajectory)
    before = 0
    for state in kept(session, job_id):
        own = list(rates[before : state.step])
        even = len(set(own)) == 1
        session.add(
            Checkpoint(
                id=new_id("ck"),
                trajectory_id=trajectory.id,
                step=state.step,
                learning_rate=own[0] if even else None,
                learning_rates=None if even or not own else own,
                status="ready",
                filename=f"{state.step}.safetensors",
                bytes=state.bytes,
                sha256=state.blob,
                blob=state.blob,
                optimizer_blob=state.optimizer_blob,
                optimizer_file=state.optimizer_file,
                info=state.info,
            )
        )
        before = state.step
    session.flush()  # the checkpoints name the blobs before the states no longer do
    drop(session, blobs, job_id)
    return trajectory


def drop(session: Session, blobs: BlobStore, job_id: str) -> None:
    """Forgets all states of the job."""
    query = select(TrainingState).where(TrainingState.job_id == job_id)
    _forget(session, blobs, session.scalars(query).all())


def _forget(session: Session, blobs: BlobStore, states: Sequence[TrainingState]) -> None:
    named = [blob for state in states for blob in (state.blob, state.optimizer_blob)]
    for state in states:
        session.delete(state)
    blobs.forget(session, *named)
