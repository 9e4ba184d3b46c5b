"""Whether a selection can be made of a job's scores, and how many samples it is of."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from app.api.deps import Principal
from app.api.problems import ApiProblem
from app.api.scores import scored_job
from app.api.selections.again import training, update, verification
from app.api.selections.body import CleanIn, CoresetIn, DecidedIn, DeletionIn, NewSelection
from app.settings import Settings
from app.store import decisions, scores, selections
from app.store.scored import Scored
from app.store.tables import Selection

CHANGES = ("diff_in", "tracin", "influence_function")  # whose scores are changes of the query loss
COMPARED = 200_000  # samples among which near-duplicates are looked for
SHOWN = 5


class Asked(NamedTuple):
    """What a selection that can be made is asked for; defaults are filled in.

    Attributes:
        request: as the worker takes it.
        size: how many samples it is of, where that is known before.
    """

    request: dict[str, Any]
    size: int | None


def create(
    session: Session, settings: Settings, caller: Principal, job_id: str, body: NewSelection
) -> Selection:
    """The selection that the body asks for, queued.

    Raises:
        ApiProblem: as `admit`; 404 or 409 where the job has no scores.
    """
    scored = scored_job(session, caller.project_id, job_id, lock=True)
    asked = admit(session, settings, scored, body, caller.key_id)
    selection = selections.create(
        session,
        job_id=job_id,
        project_id=caller.project_id,
        type=body.type,
        request=asked.request,
        size=asked.size,
        num_samples=scored.num_samples,
        name=body.name,
        notes=body.notes,
        meta=body.metadata,
    )
    session.flush()
    return selection


def admit(session: Session, settings: Settings, scored: Scored, body: NewSelection, key_id: str) -> Asked:
    """What the body asks for of this job, by this key.

    Raises:
        ApiProblem: 409 for what the job did not compute, 422 for the rest.
    """
    if isinstance(body, CleanIn):
        asked = _clean(session, scored, body)
    elif isinstance(body, CoresetIn):
        asked = _coreset(session, scored, body)
    elif isinstance(body, DecidedIn):
        asked = _decided(session, scored, key_id)
    else:
        asked = _deletion(session, settings, scored, body)
    request = asked.request | {"verify": body.verify}
    if body.verify:
        request |= {"seeds": body.seeds, "training": verification(session, scored.job)}
    return asked._replace(request=request)


def _clean(session: Session, scored: Scored, body: CleanIn) -> Asked:
    has_suspicion = bool((scored.job.result or {}).get("suspicion"))
    by = body.by or ("suspicion" if has_suspicion and body.threshold is None else "score")
    if by == "suspicion" and not has_suspicion:
        detail = "This job did not compute suspicion, which tells of wrong labels: ask by: score."
        raise ApiProblem(409, "not_computed", detail, pointer="/by")
    if body.auto and not has_classes(session, scored):
        detail = f"Samples of the task {scored.task} have no classes that could be wrong: give a size."
        raise ApiProblem(422, "no_classes", detail, pointer="/auto")
    size: int | None
    if body.auto:
        size = None  # that is what the worker finds out
    elif body.threshold is not None:
        size = scores.count_at_least(session, scored.job.id, by, body.threshold)
    else:
        size = _size(scored, body)
    request = {name: getattr(body, name) for name in ("auto", "size", "fraction", "threshold")}
    request |= {"by": by, "relabel": body.relabel} | _rounds(session, scored, body)
    return Asked(request, size)


def _rounds(session: Session, scored: Scored, body: CleanIn) -> dict[str, Any]:
    """{rounds}, and for two of them {training}: left out, two where the run can be trained again."""
    if not body.auto or body.rounds == 1:
        return {"rounds": 1}
    try:
        return {"rounds": 2, "training": training(session, scored.job, "/rounds")}
    except ApiProblem:
        if body.rounds == 2:
            raise
        return {"rounds": 1}


def _coreset(session: Session, scored: Scored, body: CoresetIn) -> Asked:
    classes = has_classes(session, scored)
    if body.stratify and not classes:
        detail = f"Samples of the task {scored.task} have no classes to keep in proportion: leave it out."
        raise ApiProblem(422, "no_classes", detail, pointer="/stratify")
    stratify = classes if body.stratify is None else body.stratify
    compared = scored.num_samples <= COMPARED
    for field, asked in (("by", body.by == "coverage"), ("diversity", body.diversity)):
        if asked and not compared:
            detail = f"The job scored {scored.num_samples} samples: up to {COMPARED} can be compared."
            raise ApiProblem(422, "too_many_samples", detail, pointer=f"/{field}")
    if body.by == "coverage" and not classes:
        detail = f"Samples of the task {scored.task} have no classes to cover: ask by: influence."
        raise ApiProblem(422, "no_classes", detail, pointer="/by")
    by = body.by or ("coverage" if classes and compared else "influence")
    request = {"size": body.size, "fraction": body.fraction, "by": by, "stratify": stratify}
    request |= {"drop_suspects": _drop_suspects(scored, body, by, classes), "diversity": body.diversity}
    return Asked(request, _size(scored, body))


def _drop_suspects(scored: Scored, body: CoresetIn, by: str, classes: bool) -> bool:
    has_suspicion = bool((scored.job.result or {}).get("suspicion"))
    if body.drop_suspects and not has_suspicion:
        detail = "This job did not compute suspicion, which tells of wrong labels: leave it out."
        raise ApiProblem(409, "not_computed", detail, pointer="/drop_suspects")
    if body.drop_suspects and not classes:
        detail = f"Samples of the task {scored.task} have no classes that could be wrong: leave it out."
        raise ApiProblem(422, "no_classes", detail, pointer="/drop_suspects")
    if body.drop_suspects is None:
        return has_suspicion and classes and by in ("coverage", "influence")
    return body.drop_suspects


def _deletion(session: Session, settings: Settings, scored: Scored, body: DeletionIn) -> Asked:
    method = scored.job.method.get("name", "")
    if method not in CHANGES:
        detail = (
            f"Scores of {method} are no changes of the query loss, so that nothing follows for a deletion: "
            f"start a job with one of {', '.join(CHANGES)}."
        )
        raise ApiProblem(422, "unsuitable_method", detail)
    if body.sample_ids is not None:
        indices = _by_ids(session, scored, body.sample_ids)
    else:
        indices = sorted(body.sample_indices or [])
        beyond = [index for index in indices if index >= scored.num_samples]
        if beyond:
            detail = f"The job scored samples 0 to {scored.num_samples - 1}; {beyond[:SHOWN]} are beyond."
            raise ApiProblem(422, "index_out_of_range", detail, pointer="/sample_indices")
    _something_left(scored, len(indices))
    updated = update(session, scored.job, body, settings.memory_bytes)
    return Asked({"sample_indices": indices} | updated, len(indices))


def _decided(session: Session, scored: Scored, key_id: str) -> Asked:
    """The caller's decisions, as they are now: later ones do not change the selection."""
    remove, relabel = decisions.to_act_on(session, scored.job.id, key_id)
    if not remove and not relabel:
        detail = (
            "With this key you decided to remove or relabel no sample of this job: decide first "
            "(PUT /v1/jobs/{id}/decisions, or the page)."
        )
        raise ApiProblem(409, "nothing_decided", detail)
    _something_left(scored, len(remove))
    return Asked({"removed": remove, "relabelled": relabel}, len(remove) + len(relabel))


def _something_left(scored: Scored, removed: int) -> None:
    if removed == scored.num_samples:
        detail = "These are all samples there are: nothing would be left to train on."
        raise ApiProblem(422, "nothing_left", detail)


def _by_ids(session: Session, scored: Scored, ids: list[str]) -> list[int]:
    found = scores.by_ids(session, scored.job.id, ids)
    unknown = [one for one in ids if one not in found]
    if unknown:
        shown = ", ".join(map(repr, unknown[:SHOWN]))
        detail = f"{len(unknown)} of the sample_ids are no sample's of the training set: {shown}."
        raise ApiProblem(422, "unknown_sample", detail, pointer="/sample_ids")
    return sorted(index for indices in found.values() for index in indices)


def _size(scored: Scored, body: CleanIn | CoresetIn) -> int:
    """The size that `size` or `fraction` asks for."""
    n = scored.num_samples
    if body.size is not None and body.size > n:
        detail = f"The job scored {n} samples; size is {body.size}."
        raise ApiProblem(422, "too_many_samples", detail, pointer="/size")
    return body.size or max(1, round((body.fraction or 0) * n))


def has_classes(session: Session, scored: Scored) -> bool:
    """Whether the job's targets are classes, one a sample, as the first of them tells: soft binary targets
    are none.
    """
    first = scores.one(session, scored.job.id, 0)
    label = None if first is None else first.label
    return scored.task in ("classification", "binary") and label is not None and label.is_integer()
