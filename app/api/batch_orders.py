"""The batch order of a trajectory: which samples each step saw, for scores of exact membership."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Config, Db
from app.api.multipart import form_schema, received, refuse_pickle
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.quotas import file_limit, refuse_files
from app.api.resources import RETRY_AFTER
from app.api.trajectories import TrajectoryId, found_trajectory
from app.api.trajectory_models import BatchOrderOut
from app.store import jobs, trajectories
from app.store.tables import Trajectory

router = APIRouter(
    prefix="/v1/trajectories/{trajectory_id}/batch-order", tags=["trajectories"], responses=PROBLEMS
)


class _NoFields(BaseModel):
    """A batch order is a file and nothing else."""

    model_config = ConfigDict(extra="forbid")


@router.put(
    "",
    summary="Upload the batch order",
    response_model=BatchOrderOut,
    responses=responses(404, 409, 413, 415),
    openapi_extra=form_schema(
        _NoFields,
        "npy, npz or safetensors with an integer array `batch_order` [total_steps, batch]: rows of the "
        "training set, in the order of the steps; -1 fills a batch that is short.",
    ),
)
async def put_batch_order(
    request: Request,
    trajectory_id: TrajectoryId,
    caller: Caller,
    database: Db,
    blobs: Blobs,
    settings: Config,
) -> Response:
    """In place of the one before, if any. A worker validates it: poll the trajectory's `batch_order`."""

    def known() -> None:
        with database.snapshot() as session:
            found_trajectory(session, caller.project_id, trajectory_id)

    def put() -> BatchOrderOut:
        with database.transaction() as session:
            refuse_files(session, settings, caller.project_id, upload.files.values())
            trajectory = _unused(session, caller.project_id, trajectory_id)
            file = upload.file
            told = {"filename": file.filename, "bytes": file.bytes}
            order = trajectories.set_order(session, blobs, trajectory, file.path, file.sha256, **told)
            return BatchOrderOut.of(order)

    await asyncio.to_thread(known)  # before the bytes come
    most = await file_limit(request, database, settings, caller.project_id)
    async with received(request, blobs, most) as upload:
        refuse_pickle(upload.file.filename)
        upload.form(_NoFields)
        body = await asyncio.to_thread(put)
    return Response(body.model_dump_json(), headers=RETRY_AFTER, media_type="application/json")


@router.delete("", status_code=204, summary="Delete the batch order", responses=responses(404, 409))
def delete_batch_order(trajectory_id: TrajectoryId, caller: Caller, database: Db, blobs: Blobs) -> None:
    """Refused with `in_use` while a job that is not finished may read it."""
    with database.transaction() as session:
        trajectory = _unused(session, caller.project_id, trajectory_id)
        if trajectory.batch_order is None:
            raise not_found("batch order of the trajectory", trajectory_id)
        trajectories.delete_order(session, blobs, trajectory.batch_order)


def _unused(session: Session, project_id: str, trajectory_id: str) -> Trajectory:
    """The trajectory, locked, or 404; 409 `in_use` when a job is at work on it."""
    trajectory = found_trajectory(session, project_id, trajectory_id, lock=True)
    if used := jobs.using(session, trajectory_id=trajectory_id, unfinished=True):
        detail = f"{', '.join(used)} may be reading it: cancel the job first, or wait for its end."
        raise ApiProblem(409, "in_use", detail, extra={"jobs": list(used)})
    return trajectory
