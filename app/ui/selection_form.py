"""The form that asks for a selection, read into the body that the API takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, StringConstraints, TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from app.api.problems import ApiProblem, refused_body
from app.api.resources import NO_NUL
from app.api.selections.admission import CHANGES, has_classes
from app.api.selections.again import verification
from app.api.selections.body import NewSelection
from app.store import decisions
from app.store.scored import Scored
from app.store.tables import Selection

Text = Annotated[str, StringConstraints(max_length=200, pattern=NO_NUL)]
Indices = Annotated[str, StringConstraints(max_length=1_000_000, pattern=NO_NUL)]
Type = Literal["clean", "coreset", "deletion", "decided"]

BODY: TypeAdapter[Any] = TypeAdapter(NewSelection)
WHOLE, REAL = "a whole number", "a number"
MOST_INDICES = 1_000_000


class Asked(BaseModel):
    """The form as it comes: text, to be checked as the API checks it."""

    type: Type = "clean"
    name: Text = ""
    amount: Text = "auto"
    size: Text = ""
    fraction: Text = ""
    threshold: Text = ""
    by: Text = ""
    relabel: Text = "1"
    kept: Text = "fraction"
    kept_size: Text = ""
    kept_fraction: Text = ""
    kept_by: Text = ""
    stratify: Text = ""
    indices: Indices = ""
    checkpoint: Text = ""
    verify: Text = ""
    seeds: Text = "5"


# Where a problem of the body stands in the form
FIELDS = {"coreset": {"size": "kept_size", "fraction": "kept_fraction", "by": "kept_by"}}
FIELDS["deletion"] = {"sample_indices": "indices"}


def body(asked: Asked) -> Any:
    """What the API would be asked.

    Raises:
        ApiProblem: 422, its pointers those of the body.
    """
    told = {"type": asked.type, "name": asked.name, **_PARTS[asked.type](asked)}
    if asked.verify:
        told |= {"verify": True, "seeds": _number(asked.seeds, "/seeds", WHOLE)}
    try:
        return BODY.validate_python(told)
    except ValidationError as refused:
        raise refused_body(refused, told) from refused


def errors(asked: Asked, problem: ApiProblem) -> dict[str, str]:
    """What is wrong, by the form's field; "" for what is of none."""
    names = FIELDS.get(asked.type, {})
    found: dict[str, str] = {}
    for pointer, detail in problem.errors or [("", str(problem.detail))]:
        field = pointer.removeprefix("/").split("/")[0]
        field = names.get(field, field)
        found.setdefault(field if field in Asked.model_fields else "", detail)
    return found


def offered(session: Session, scored: Scored, key_id: str) -> dict[str, Any]:
    """What can be asked of this job: context of the form."""
    result, method = scored.job.result or {}, scored.job.method.get("name", "")
    try:
        verification(session, scored.job)
        unverifiable = None
    except ApiProblem as problem:
        unverifiable = str(problem.detail)
    return {
        "classes": has_classes(session, scored),
        "suspicion": bool(result.get("suspicion")),
        "deletable": method in CHANGES,
        "unverifiable": unverifiable,
        "decided": decisions.counts(session, scored.job.id, key_id),
    }


def title(selection: Selection) -> str:
    """What a selection is called: its name, or what it does."""
    kinds = {"clean": "cleaning", "coreset": "coreset", "deletion": "deletion", "decided": "by hand"}
    return selection.name or kinds[selection.type]


def _clean(asked: Asked) -> dict[str, Any]:
    told: dict[str, Any] = {"by": asked.by or None, "relabel": asked.relabel == "1"}
    if asked.amount == "auto":
        return told | {"auto": True}
    kinds = {"size": WHOLE, "fraction": REAL, "threshold": REAL}
    if asked.amount not in kinds:
        raise ApiProblem(422, "validation_error", "Say how many samples.", pointer="/amount")
    value = _number(getattr(asked, asked.amount), f"/{asked.amount}", kinds[asked.amount])
    return told | {asked.amount: value}


def _coreset(asked: Asked) -> dict[str, Any]:
    told: dict[str, Any] = {"by": asked.kept_by or None}
    if asked.stratify:
        told["stratify"] = asked.stratify == "1"
    if asked.kept == "size":
        return told | {"size": _number(asked.kept_size, "/size", WHOLE)}
    return told | {"fraction": _number(asked.kept_fraction, "/fraction", REAL)}


def _deletion(asked: Asked) -> dict[str, Any]:
    told: dict[str, Any] = {"sample_indices": _indices(asked.indices)}
    return told | ({"checkpoint": False} if asked.checkpoint == "0" else {})


def _decided(_asked: Asked) -> dict[str, Any]:
    return {}  # what it is of, the decisions tell


_PARTS = {"clean": _clean, "coreset": _coreset, "deletion": _deletion, "decided": _decided}


def _number(text: str, pointer: str, kind: str) -> int | float:
    """A number out of a form; percent are taken as what they are."""
    plain = text.strip().replace(",", ".")
    try:
        if plain.endswith("%") and kind == REAL:
            return float(plain[:-1]) / 100
        return int(plain) if kind == WHOLE else float(plain)
    except ValueError:
        said = f"{text[:40]!r} is not {kind}." if plain else f"Give {kind}."
        raise ApiProblem(422, "validation_error", said, pointer=pointer) from None


def _indices(text: str) -> list[int]:
    """Indices out of "3, 17, 100-120": numbers and ranges, both ends included."""
    found: list[int] = []
    for part in text.replace(",", " ").replace(";", " ").split():
        first, dash, last = part.partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(one.isascii() and one.isdigit() and len(one) < 19 for one in ends):
            said = f"{part[:40]!r} is no index and no range like 100-120."
            raise ApiProblem(422, "validation_error", said, pointer="/sample_indices")
        start, end = int(ends[0]), int(ends[1])
        if len(found) + end - start >= MOST_INDICES:
            said = f"These are more than {MOST_INDICES:,} samples: ask the API."
            raise ApiProblem(422, "validation_error", said, pointer="/sample_indices")
        found += range(start, end + 1)
    if not found:
        said = "Give the indices of the samples: 3, 17, 100-120."
        raise ApiProblem(422, "validation_error", said, pointer="/sample_indices")
    return sorted(set(found))
