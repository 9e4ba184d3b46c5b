"""One sample of a job, closely: what it is, when it helped and hurt, its neighbours in the ranking."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from app.api.deps import Blobs, Db
from app.api.jobs.resource import JobId
from app.api.problems import not_found
from app.api.resources import INT64
from app.api.scores import scored_job
from app.store import columns, scores, trajectories
from app.ui import charts, state
from app.ui.cards import cards
from app.ui.gallery import labels
from app.ui.shell import render
from app.ui.verdicts import verdicts
from app.ui.views import SIZE, ViewOf, checked
from app.ui.visitors import PageCaller

router = APIRouter(prefix="/jobs/{job_id}", include_in_schema=False)


@router.get("/samples/{index}")
def show(
    request: Request,
    job_id: JobId,
    index: Annotated[int, Path(ge=0, le=INT64)],
    caller: PageCaller,
    database: Db,
    blobs: Blobs,
    view: ViewOf,
) -> HTMLResponse:
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
        stored = scores.one(session, job_id, index)
        if stored is None:
            raise not_found("sample", str(index))
        view = checked(view, scored)
        table = columns.of(session, blobs, job_id)
        passing = table.passing(view.filter)
        place = table.place(view.order, passing, index)
        around = [] if place is None else table.page(view.order, passing, max(0, place - 1), 3)
        [card] = cards(session, blobs, scored, [index], whole=True)
        parts, losses = scores.contributions(stored), scores.losses(stored)
        known = {one.id: one for one in trajectories.in_order(session, scored.job.checkpoint_ids)}
        steps = [known[one].step if one in known else None for one in scored.job.checkpoint_ids]
        at = around.index(index) if index in around else 0
        return render(
            request,
            "sample.html",
            caller=caller,
            tab="samples",
            view=view if place is None else view._replace(page=place // SIZE + 1),
            card=card,
            before=around[at - 1] if at > 0 else None,
            after=around[at + 1] if place is not None and at + 1 < len(around) else None,
            place=place,
            total=len(table) if passing is None else len(passing),
            course=charts.course(parts, losses),
            parts=list(zip(steps, parts, losses, strict=True)),
            labels_known=labels(table, scored),
            decision=verdicts(session, scored, caller.principal.key_id, [index]).get(index),
            **state.of(session, scored.job),
        )
