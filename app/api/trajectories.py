"""Trajectories: what was trained and how, and the checkpoints it left (uploaded in checkpoints.py)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Db
from app.api.idempotency import OncePost
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.resources import NO_NUL, RETRY_AFTER, Edit, deleting, edited, refuse_use, tagged
from app.api.trajectory_files import BODY, check_files, created
from app.api.trajectory_models import TrajectoryDetail, TrajectoryIn, TrajectoryOut, detailed, told
from app.store import jobs, pages, trajectories
from app.store.tables import Trajectory

router = APIRouter(prefix="/v1/trajectories", tags=["trajectories"], responses=PROBLEMS)

TrajectoryId = Annotated[str, Path(pattern=NO_NUL, examples=["tr_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]


@router.post(
    "",
    status_code=201,
    summary="Describe a training run",
    response_model=TrajectoryDetail,
    responses=responses(409, 413, 415),
    openapi_extra=BODY,
)
def create_trajectory(body: TrajectoryIn, caller: Caller, once: OncePost) -> Response:
    """Names the network, the task and how it was trained; its checkpoints follow one by one.

    As multipart, the same JSON is the part `trajectory`, and the network's graph (ONNX) comes along as the
    part `architecture_file`. A worker reads it: `status` goes from `validating` to `ready` or `invalid`, and
    `error` says why.
    """
    check_files(body, ())
    return once.run(lambda session: created(session, caller.project_id, body))


@router.get("", summary="List trajectories, newest first")
def list_trajectories(caller: Caller, database: Db, paging: PageOf) -> Page[TrajectoryOut]:
    """Without their checkpoints."""
    binding = "trajectories", caller.project_id
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, Trajectory, caller.project_id, paging.limit + 1, after=after)
    rows, cursor = paging.cut(found, pages.position, *binding)
    return Page(data=[TrajectoryOut(**told(row)) for row in rows], next_cursor=cursor)


@router.get(
    "/{trajectory_id}",
    summary="One trajectory with its checkpoints",
    response_model=TrajectoryDetail,
    responses=responses(404),
)
def get_trajectory(request: Request, trajectory_id: TrajectoryId, caller: Caller, database: Db) -> Response:
    """With an `ETag`; while any of its files is validating, with `Retry-After`."""
    with database.snapshot() as session:
        body = detailed(found_trajectory(session, caller.project_id, trajectory_id))
    return tagged(request, body, headers=RETRY_AFTER if body.validating else None)


@router.patch(
    "/{trajectory_id}",
    summary="Rename a trajectory",
    response_model=TrajectoryDetail,
    responses=responses(404, 412),
)
def edit_trajectory(
    request: Request, trajectory_id: TrajectoryId, edit: Edit, caller: Caller, database: Db
) -> Response:
    """With `If-Match` only if it still is the version of that `ETag`."""
    with database.transaction() as session:
        trajectory = found_trajectory(session, caller.project_id, trajectory_id, lock=True)
        return edited(request, edit, trajectory, detailed)


@router.delete(
    "/{trajectory_id}",
    status_code=204,
    summary="Delete a trajectory and its checkpoints",
    responses=responses(404, 409),
)
def delete_trajectory(trajectory_id: TrajectoryId, caller: Caller, database: Db, blobs: Blobs) -> None:
    """Refused with `in_use` while a job names it."""
    with deleting(f"The trajectory {trajectory_id}"), database.transaction() as session:
        trajectory = found_trajectory(session, caller.project_id, trajectory_id, lock=True)
        refuse_use(f"The trajectory {trajectory_id}", jobs.using(session, trajectory_id=trajectory_id))
        trajectories.delete(session, blobs, trajectory)


def found_trajectory(
    session: Session, project_id: str, trajectory_id: str, pointer: str | None = None, *, lock: bool = False
) -> Trajectory:
    """The trajectory, or 404."""
    find = trajectories.locked if lock else trajectories.get
    trajectory = find(session, project_id, trajectory_id)
    if trajectory is None:
        raise not_found("trajectory", trajectory_id, pointer)
    return trajectory


def refuse_with_file(trajectory: Trajectory, pointer: str | None = None) -> None:
    """Raises 422 where a file that should have told of the network was refused."""
    for file in trajectory.files:
        if file.status == "invalid":
            error = trajectories.refused_with(file)
            raise ApiProblem(422, error["code"], error["detail"], pointer=pointer)
