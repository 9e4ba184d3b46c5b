"""A job's scores as figures: by class, given against predicted, score against loss."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.api.deps import Blobs, Db
from app.api.jobs.resource import JobId
from app.api.scores import scored_job
from app.store import columns, summary
from app.ui import charts, state
from app.ui.cards import label_text
from app.ui.shell import render
from app.ui.views import ALL
from app.ui.visitors import PageCaller

router = APIRouter(prefix="/jobs/{job_id}", include_in_schema=False)


@router.get("/charts")
def show(request: Request, job_id: JobId, caller: PageCaller, database: Db, blobs: Blobs) -> HTMLResponse:
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
        table = columns.of(session, blobs, job_id)
        classes = not scored.regression and not scored.pairs
        return render(
            request,
            "charts.html",
            caller=caller,
            tab="charts",
            view=ALL,
            name=lambda label: label_text(scored, label),
            histogram=charts.histogram(table["score"], bent=True),
            confusion=charts.confusion(table) if classes else None,
            scatter=charts.scatter(table),
            by_class=sorted(summary.by_class(table), key=lambda row: -row["mean_score"]) if classes else [],
            **state.of(session, scored.job),
        )
