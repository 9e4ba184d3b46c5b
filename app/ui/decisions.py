"""What somebody decided about a job's samples: written by a form, looked through, taken back."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.api.decisions import MOST, DecisionIn, decide
from app.api.deps import Blobs, Db
from app.api.jobs.resource import JobId
from app.api.problems import ApiProblem
from app.api.resources import INT64
from app.api.scores import scored_job
from app.store import decisions, scores
from app.store.chosen import Action
from app.store.scored import Scored
from app.ui import state
from app.ui.cards import cards
from app.ui.shell import render
from app.ui.verdicts import verdict
from app.ui.views import SIZE
from app.ui.visitors import PageCaller, PageWriter, safe

router = APIRouter(prefix="/jobs/{job_id}/decisions", include_in_schema=False)

ORDER: tuple[Action, ...] = ("remove", "relabel", "keep")  # what acts comes first
PREDICTED = "predicted"


@router.get("")
def show(
    request: Request,
    job_id: JobId,
    caller: PageCaller,
    database: Db,
    blobs: Blobs,
    action: Action | None = None,
    after: Annotated[int, Query(ge=-1, le=INT64)] = -1,
) -> HTMLResponse:
    """Samples by what was decided of them; of one action, SIZE at a time."""
    key_id = caller.principal.key_id
    with database.snapshot() as session:
        scored = scored_job(session, caller.project_id, job_id)
        counts = decisions.counts(session, job_id, key_id)
        action = action or next((one for one in ORDER if counts[one]), ORDER[0])
        past: list[int | str] = [after, key_id]  # a key has one decision a sample
        found = decisions.page(session, job_id, SIZE + 1, key_id=key_id, action=action, after=past)
        rows = [one.decision for one in found[:SIZE]]
        shown = cards(session, blobs, scored, [row.sample_index for row in rows])
        return render(
            request,
            "decisions.html",
            caller=caller,
            tab="decisions",
            action=action,
            order=ORDER,
            counts=counts,
            shown=[
                (card, verdict(scored, row.action, row.label)) for card, row in zip(shown, rows, strict=True)
            ],
            next=rows[-1].sample_index if len(found) > SIZE else None,
            first=after < 0,
            **state.of(session, scored.job),
        )


@router.post("")
def write(
    job_id: JobId,
    caller: PageWriter,
    database: Db,
    action: Annotated[Literal["keep", "remove", "relabel", "undo"], Form()],
    sample_index: Annotated[list[Annotated[int, Query(ge=0, le=INT64)]], Form(max_length=MOST)] = [],  # noqa: B006
    label: Annotated[str, Form(max_length=40)] = PREDICTED,
    wanted: Annotated[str, Form(alias="next", max_length=2000)] = "",
) -> RedirectResponse:
    """Decides about the ticked samples, and goes back to where they were ticked."""
    if not sample_index:
        raise ApiProblem(
            422, "nothing_ticked", "Tick some samples first, then say what to do with them. Go back and try."
        )
    with database.transaction() as session:
        scored = scored_job(session, caller.project_id, job_id, lock=True)
        chosen = sorted(set(sample_index))
        labels = _labels(session, scored, chosen, label) if action == "relabel" else {}
        told = [
            DecisionIn(sample_index=one, action=None if action == "undo" else action, label=labels.get(one))
            for one in chosen
        ]
        decide(session, scored, caller.principal.key_id, told)
    return RedirectResponse(safe(wanted) if wanted else f"/jobs/{job_id}/decisions", 303)


def _labels(session: Session, scored: Scored, indices: list[int], label: str) -> dict[int, int]:
    """The label that each of these samples should have: one for all, or what is predicted of it."""
    if label != PREDICTED:
        if not label.isascii() or not label.isdigit() or int(label) > INT64:
            raise ApiProblem(422, "unknown_label", f"No label has the number {label[:40]!r}.")
        return dict.fromkeys(indices, int(label))
    found = {
        index: row.predicted_label for index, row in scores.some(session, scored.job.id, indices).items()
    }
    unknown = [index for index in indices if (one := found.get(index)) is None or not one.is_integer()]
    if unknown:
        raise ApiProblem(422, "unknown_label", f"Of sample {unknown[0]} no class is predicted: choose one.")
    return {index: int(one) for index, one in found.items() if one is not None}
