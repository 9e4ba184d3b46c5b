"""What every resource shares: name, notes and metadata; being renamed; being read again only when changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.exc import IntegrityError

from app.api.problems import ApiProblem
from app.store.tables import Named, Resource

INT64 = 2**63 - 1
MOST_STEPS = 2_000_000  # of a run: the learning rate of each is held in memory while it is scored
RETRY_AFTER = {"Retry-After": "1"}
NO_NUL = r"^[^\x00]*$"  # PostgreSQL's text cannot hold one

Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=NO_NUL)]
GivenName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL)
]
Notes = Annotated[str, StringConstraints(max_length=10_000, pattern=NO_NUL)]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)],
        Annotated[str, StringConstraints(max_length=512, pattern=NO_NUL)],
    ],
    Field(max_length=16),
]
Id = Annotated[str, StringConstraints(max_length=64, pattern=NO_NUL)]


Edited = TypeVar("Edited", bound=Named)


class Body(BaseModel):
    """A request's body: unknown keys and values of another type are refused, none passes silently."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Edit(Body):
    """What may be changed later; what is left out stays."""

    name: Name | None = None
    notes: Notes | None = None
    metadata: Metadata | None = None

    def apply(self, resource: Named) -> None:
        if self.name is not None:
            resource.name = self.name
        if self.notes is not None:
            resource.notes = self.notes
        if self.metadata is not None:
            resource.meta = self.metadata


def tagged(
    request: Request,
    body: BaseModel,
    *,
    headers: Mapping[str, str] | None = None,
    drifting: set[str] | None = None,
) -> Response:
    """The body with its ETag, or 304 when the client has it already.

    Args:
        drifting: fields that change by themselves and make no new version.
    """
    tag = {"ETag": etag_of(body, drifting), "Cache-Control": "private, no-cache", **(headers or {})}
    if request.method in ("GET", "HEAD") and known(request, tag["ETag"]):
        return Response(status_code=304, headers=tag)
    return Response(body.model_dump_json(), headers=tag, media_type="application/json")


def etag_of(body: BaseModel, drifting: set[str] | None = None) -> str:
    """The version of a resource as it is shown; `drifting` as `tagged` has it."""
    digest = hashlib.sha256(body.model_dump_json(exclude=drifting).encode()).hexdigest()[:32]
    return f'W/"{digest}"'


def edited(
    request: Request,
    edit: Edit,
    resource: Edited,
    shown: Callable[[Edited], BaseModel],
    *,
    drifting: set[str] | None = None,
) -> Response:
    """Makes the change and answers with the resource as it is then, and its ETag; raises as
    `refuse_other_version` does.
    """
    refuse_other_version(request, shown(resource), drifting)
    edit.apply(resource)
    return tagged(request, shown(resource), drifting=drifting)


def refuse_other_version(request: Request, body: BaseModel, drifting: set[str] | None = None) -> None:
    """Raises 412 `precondition_failed` where `If-Match` names another version than this.

    The caller holds the resource's lock, so that of two who send `If-Match` only one is heard.
    """
    wanted = request.headers.get("if-match")
    if wanted is not None and not _among(wanted, etag_of(body, drifting)):
        detail = "It has changed since you read it: read it again, and send the change with its new ETag."
        raise ApiProblem(412, "precondition_failed", detail, errors=[("header:if-match", detail)])


def known(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names this version."""
    return _among(request.headers.get("if-none-match", ""), etag)


def _among(header: str, etag: str) -> bool:
    sent = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in sent or etag.removeprefix("W/") in sent


def refuse_use(what: str, jobs: Sequence[str]) -> None:
    """Raises 409 `in_use` when there are jobs that name the resource."""
    if jobs:
        detail = f"{what} belongs to {', '.join(jobs)}: delete the job first."
        raise ApiProblem(409, "in_use", detail, extra={"jobs": list(jobs)})


@contextmanager
def deleting(what: str) -> Iterator[None]:
    """Turns the database's refusal, when a job came in between, into 409 `in_use`."""
    try:
        yield
    except IntegrityError as used:
        raise ApiProblem(409, "in_use", f"{what} has just been taken into use by a job.") from used


def named(resource: Resource) -> dict[str, Any]:
    """The fields that every resource's answer starts with."""
    return {
        "id": resource.id,
        "name": resource.name,
        "notes": resource.notes,
        "metadata": resource.meta,
        "created_at": resource.created_at,
    }
