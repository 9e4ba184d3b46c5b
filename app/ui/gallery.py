"""A job's samples as a ranked gallery, with the histogram of what they are ranked by."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.api.deps import Blobs, Db
from app.api.jobs.resource import JobId, found_job
from app.api.scores import scored_job
from app.store import columns
from app.store.columns import Columns
from app.store.scored import Scored
from app.ui import charts, state
from app.ui.cards import cards, label_text
from app.ui.shell import render
from app.ui.verdicts import verdicts
from app.ui.views import SIZE, ViewOf, checked, orders
from app.ui.visitors import PageCaller

router = APIRouter(prefix="/jobs/{job_id}", include_in_schema=False)

MOST_LABELS = 1000  # in a list to choose from


@router.get("")
def show(
    request: Request, job_id: JobId, caller: PageCaller, database: Db, blobs: Blobs, view: ViewOf
) -> HTMLResponse:
    """The gallery of a job that has scores; of any other how it stands."""
    with database.snapshot() as session:
        job = found_job(session, caller.project_id, job_id)
        if job.type != "influence" or job.status != "succeeded":
            return render(request, "job_state.html", caller=caller, **state.of(session, job))
        scored = scored_job(session, caller.project_id, job_id)
        view = checked(view, scored)
        table = columns.of(session, blobs, job_id)
        passing = table.passing(view.filter)
        total = len(table) if passing is None else len(passing)
        pages = max(1, -(-total // SIZE))
        view = view._replace(page=min(view.page, pages))
        found = table.page(view.order, passing, (view.page - 1) * SIZE, SIZE)
        return render(
            request,
            "gallery.html",
            caller=caller,
            tab="samples",
            view=view,
            orders=orders(scored),
            total=total,
            pages=pages,
            cards=cards(session, blobs, scored, found),
            labels_known=(known := labels(table, scored)),
            labels_by_number=not known and numbered(table, scored),
            decisions=verdicts(session, scored, caller.principal.key_id, found),
            chart=charts.histogram(table[view.by], bent=view.by != "suspicion"),
            **state.of(session, job),
        )


@router.get("/count")
def count(job_id: JobId, caller: PageCaller, database: Db, blobs: Blobs, view: ViewOf) -> dict[str, int]:
    """How many samples a view would show: what a threshold being dragged asks."""
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
        table = columns.of(session, blobs, job_id)
    passing = table.passing(checked(view, scored).filter)
    return {"count": len(table) if passing is None else len(passing), "of": len(table)}


def labels(table: Columns, scored: Scored) -> list[tuple[float, str]]:
    """The classes to choose from, by number, with their names; none where targets are no classes."""
    if scored.regression or scored.pairs:
        return []
    found = charts.distinct(table["label"], MOST_LABELS)
    return [(value, label_text(scored, value)) for value in found]


def numbered(table: Columns, scored: Scored) -> bool:
    """Whether labels are classes, to be chosen by number where they are too many for a list."""
    return not (scored.regression or scored.pairs) and charts.whole(table["label"])
