"""Selections: those of a job and the form for another; one of them, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.api.deps import Blobs, Config, Db
from app.api.jobs.resource import JobId
from app.api.problems import ApiProblem
from app.api.resources import NO_NUL
from app.api.scores import scored_job
from app.api.selections import admission
from app.api.selections.resource import SelectionId, found_selection
from app.store import chosen, pages, selections
from app.store import scored as scored_rows
from app.store.blobs import BlobStore
from app.store.scored import Scored
from app.store.tables import Job, Selection
from app.ui import intervals, state
from app.ui.cards import cards, label_text
from app.ui.selection_form import Asked, Type, body, errors, offered, title
from app.ui.shell import render
from app.ui.verdicts import verdict
from app.ui.views import SIZE
from app.ui.visitors import PageCaller, PageWriter, Visitor

router = APIRouter(include_in_schema=False)

LISTED = 50
ASKED = ("auto", "fraction", "threshold", "by", "verify", "seeds")  # of a request, not all of every type
FOUND = ("estimate", "cut", "predicted_change", "duplicates", "warnings", "update", "verification")


@router.get("/jobs/{job_id}/selections")
def index(
    request: Request,
    job_id: JobId,
    caller: PageCaller,
    database: Db,
    wanted: Annotated[Type, Query(alias="type")] = "clean",
    indices: Annotated[str, Query(max_length=10_000, pattern=NO_NUL)] = "",
    before: Annotated[str | None, Query(max_length=64, pattern=NO_NUL)] = None,
) -> HTMLResponse:
    """What was selected of the job's samples, newest first, and the form for another selection."""
    with database.snapshot() as session:
        return _index(request, session, caller, job_id, Asked(type=wanted, indices=indices), None, before)


@router.post("/jobs/{job_id}/selections")
def create(
    request: Request,
    job_id: JobId,
    caller: PageWriter,
    settings: Config,
    database: Db,
    asked: Annotated[Asked, Form()],
) -> Response:
    """Makes the selection; what is wrong is told where it is, and nothing typed is lost."""
    try:
        with database.transaction() as session:
            made = admission.create(session, settings, caller.principal, job_id, body(asked))
            return RedirectResponse(f"/selections/{made.id}", 303)
    except ApiProblem as problem:
        with database.snapshot() as session:
            return _index(request, session, caller, job_id, asked, problem)


@router.get("/selections/{selection_id}")
def show(
    request: Request,
    selection_id: SelectionId,
    caller: PageCaller,
    database: Db,
    blobs: Blobs,
    page: Annotated[int, Query(ge=1, le=10**9)] = 1,
) -> HTMLResponse:
    with database.snapshot() as session:
        selection = found_selection(session, caller.project_id, selection_id)
        job = session.get_one(Job, selection.job_id)
        scored = scored_rows.of(session, job)
        told: dict[str, Any] = {"selection": selection, "name": title(selection)}
        told["request_told"] = dict.fromkeys(ASKED) | selection.request
        told["standing"] = selections.progress(session, selection)
        if selection.status == "succeeded":
            told |= _samples(session, blobs, scored, selection, page) | _findings(scored, selection)
            updated = selections.blob(session, selection_id, selections.CHECKPOINT)
            told["updated"] = updated is not None
        about = state.of(session, job)
        return render(request, "selection.html", caller=caller, tab="selections", **(about | told))


@router.post("/selections/{selection_id}/delete")
def delete(selection_id: SelectionId, caller: PageWriter, database: Db, blobs: Blobs) -> RedirectResponse:
    """Deletes the selection; one that a worker is at is stopped."""
    with database.transaction() as session:
        selection = found_selection(session, caller.project_id, selection_id, lock=True)
        job_id = selection.job_id
        selections.delete(session, blobs, selection)
    return RedirectResponse(f"/jobs/{job_id}/selections", 303)


def _index(
    request: Request,
    session: Session,
    caller: Visitor,
    job_id: str,
    asked: Asked,
    problem: ApiProblem | None = None,
    before: str | None = None,
) -> HTMLResponse:
    scored = scored_job(session, caller.project_id, job_id)
    rows, older = pages.older(session, Selection, caller.project_id, LISTED, before, job_id=job_id)
    offer = offered(session, scored, caller.principal.key_id)
    if problem is None and asked.amount == "auto" and not offer["classes"]:
        asked = asked.model_copy(update={"amount": "fraction"})
    return render(
        request,
        "selections.html",
        problem.status_code if problem else 200,
        caller=caller,
        tab="selections",
        rows=[(one, title(one), selections.progress(session, one)) for one in rows],
        first=before is None,
        next=older,
        asked=asked,
        errors=errors(asked, problem) if problem else {},
        offer=offer,
        **state.of(session, scored.job),
    )


def _samples(
    session: Session, blobs: BlobStore, scored: Scored, selection: Selection, page: int
) -> dict[str, Any]:
    """The samples of a page of the selection, with what is to be done to each."""
    file = selections.path(session, blobs, selection.id, selections.ROWS)
    assert file is not None  # noqa: S101  (one that succeeded has it)
    rows = chosen.read(file[0])
    last = max(1, -(-len(rows) // SIZE))
    page = min(page, last)
    some = rows[(page - 1) * SIZE : page * SIZE]
    shown = cards(session, blobs, scored, [int(row["sample_index"]) for row in some])
    told = [chosen.told(row, None, scored.classes) for row in some]
    verdicts = [verdict(scored, row["action"], row["suggested_label"]) for row in told]
    return {"page": page, "pages": last, "shown": list(zip(shown, told, verdicts, strict=True))}


def _findings(scored: Scored, selection: Selection) -> dict[str, Any]:
    """What came of it, ready to be drawn."""
    result = dict.fromkeys(FOUND) | (selection.result or {})
    verification = result.get("verification")
    figures = [
        intervals.compared(name, verification.get(key))
        for key, name in (("loss", "query loss"), ("accuracy", "accuracy"))
        if verification
    ]
    by_class = [
        (label_text(scored, one["label"]), one["count"], one["selected"])
        for one in sorted(result.get("by_class") or [], key=lambda one: -one["selected"])
    ]
    return {
        "result": result,
        "verification": verification,
        "compared": [one for one in figures if one is not None],
        "by_class": by_class,
        "sides": _sides(result),
    }


def _sides(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A deletion's networks: the original, the updated, and those trained without the samples."""
    effects = (result.get("update") or {}).get("effects") or {}
    found = [(name, effects[name]) for name in ("original", "updated") if name in effects]
    retrained = (result.get("verification") or {}).get("retrained")
    if retrained:
        means = {
            part: {name: one and one["mean"] for name, one in figures.items()}
            for part, figures in retrained.items()
            if part != "membership_auc"
        }
        auc = retrained["membership_auc"]
        found.append(("trained without them", means | {"membership_auc": auc and auc["mean"]}))
    return found
