"""The routes of selections: made of a job, followed, listed, deleted."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Caller, Config, Db
from app.api.idempotency import Answer, OncePost
from app.api.jobs.resource import JobId
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, responses
from app.api.resources import NO_NUL, RETRY_AFTER, Edit, edited, tagged
from app.api.selections import admission
from app.api.selections.body import NewSelection
from app.api.selections.resource import (
    SelectionId,
    SelectionOut,
    Status,
    Type,
    found_selection,
    shown,
)
from app.store import pages, selections
from app.store.selections import FINISHED
from app.store.tables import Selection

router = APIRouter(prefix="/v1", tags=["selections"], responses=PROBLEMS)


@router.post(
    "/jobs/{job_id}/selections",
    status_code=201,
    summary="Clean, delete or keep",
    response_model=SelectionOut,
    responses=responses(404, 409),
)
def create_selection(
    job_id: JobId, body: NewSelection, caller: Caller, settings: Config, once: OncePost
) -> Response:
    """`clean` proposes what to remove or relabel, `coreset` what to keep, `deletion` tells what removing
    these samples would do, `decided` does what the caller decided. 409 until the job has succeeded.
    """

    def act(session: Session) -> Answer:
        selection = admission.create(session, settings, caller, job_id, body)
        headers = {"Location": f"/v1/selections/{selection.id}", **RETRY_AFTER}
        return Answer(201, shown(session, selection), headers)

    return once.run(act)


@router.get("/selections", summary="List selections, newest first")
def list_selections(
    caller: Caller,
    database: Db,
    paging: PageOf,
    job_id: Annotated[str | None, Query(pattern=NO_NUL)] = None,
    type: Annotated[Type | None, Query()] = None,  # noqa: A002  (the parameter's name)
    status: Annotated[Status | None, Query()] = None,
) -> Page[SelectionOut]:
    wanted = {"job_id": job_id, "type": type, "status": status}
    binding = "selections", caller.project_id, wanted
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, Selection, caller.project_id, paging.limit + 1, after=after, **wanted)
        rows, cursor = paging.cut(found, pages.position, *binding)
        data = [shown(session, row) for row in rows]
    return Page(data=data, next_cursor=cursor)


@router.get(
    "/selections/{selection_id}",
    summary="One selection",
    response_model=SelectionOut,
    responses=responses(404),
)
def get_selection(request: Request, selection_id: SelectionId, caller: Caller, database: Db) -> Response:
    """With an `ETag`; until it is finished, with `Retry-After`."""
    with database.snapshot() as session:
        body = shown(session, found_selection(session, caller.project_id, selection_id))
    return tagged(request, body, headers=None if body.status in FINISHED else RETRY_AFTER)


@router.patch(
    "/selections/{selection_id}",
    summary="Rename a selection",
    response_model=SelectionOut,
    responses=responses(404, 412),
)
def edit_selection(
    request: Request, selection_id: SelectionId, edit: Edit, caller: Caller, database: Db
) -> Response:
    """With `If-Match` only if it still is the version of that `ETag`."""
    with database.transaction() as session:
        selection = found_selection(session, caller.project_id, selection_id, lock=True)
        return edited(request, edit, selection, partial(shown, session))


@router.delete(
    "/selections/{selection_id}", status_code=204, summary="Delete a selection", responses=responses(404)
)
def delete_selection(selection_id: SelectionId, caller: Caller, database: Db, blobs: Blobs) -> None:
    """With its files. One that a worker is at is stopped."""
    with database.transaction() as session:
        selection = found_selection(session, caller.project_id, selection_id, lock=True)
        selections.delete(session, blobs, selection)
