"""API keys: made, listed, renamed, rotated, revoked by an admin key.

An admin key rules its own project's keys; one of the project `default`, the operator's, those of all.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from app.api.deps import Admin, Config, Db, Principal
from app.api.idempotency import Answer, OncePost
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.resources import NO_NUL, Body, Edit, GivenName, Metadata, Notes, edited, named, tagged
from app.store import keys, pages, usage
from app.store.keys import DEFAULT_PROJECT, Made
from app.store.tables import ApiKey

router = APIRouter(prefix="/v1/api-keys", tags=["API keys"], responses=PROBLEMS)

KEY = "key_0197f4e9-2b3c-7c5e-9c4f-3f1f2d1f6a52"
DAY = 24 * 3600
LONGEST = 10 * 365 * DAY
SECRET = {"Cache-Control": "no-store"}

KeyId = Annotated[str, Path(pattern=NO_NUL, examples=[KEY])]
Scope = Literal["read", "write", "admin"]
PROJECT = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
Project = Annotated[str, StringConstraints(pattern=PROJECT)]


class ApiKeyIn(Body):
    """A key that is to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "nightly runs", "scopes": ["read", "write"], "expires_in_seconds": 7776000}]
        }
    )

    name: GivenName
    notes: Notes = ""
    metadata: Metadata = Field({})
    scopes: list[Scope] = Field(min_length=1, max_length=3, description="`admin` may read and write as well.")
    expires_in_seconds: int | None = Field(
        None, ge=1, le=LONGEST, description="After which it opens nothing; else it lives until it is revoked."
    )
    project_id: Project | None = Field(
        None,
        description=f"Else your own. Another one may be named by an admin of `{DEFAULT_PROJECT}`; a project "
        "is there once it has a key.",
    )


class RotationIn(Body):
    """How a key is replaced."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 3600}]})

    overlap_seconds: int = Field(
        DAY, ge=0, le=30 * DAY, description="How long the old one is good beside the new one."
    )


class ApiKeyOut(BaseModel):
    """A key without its text, which nobody knows but whom it was shown to."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": KEY,
                    "name": "nightly runs",
                    "notes": "",
                    "metadata": {},
                    "created_at": "2026-11-25T03:00:00Z",
                    "project_id": "default",
                    "scopes": ["read", "write"],
                    "status": "live",
                    "last_used_at": "2026-11-25T08:00:00Z",
                    "expires_at": None,
                    "revoked_at": None,
                    "replaced_by": None,
                }
            ]
        }
    )

    id: str
    name: str
    notes: str
    metadata: dict[str, str]
    created_at: datetime
    project_id: str
    scopes: list[Scope]
    status: Literal["live", "expired", "revoked"]
    last_used_at: datetime | None = Field(description="To the minute.")
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None = Field(description="The key it was rotated to.")


class NewApiKeyOut(ApiKeyOut):
    """A key with its text."""

    key: str | None = Field(
        description="Shown this once; null when an Idempotency-Key replays the answer: then rotate the key.",
        examples=["diffin_W3v0nXc2r6l0iE5gkq1YB7v9sUj3tKf8hQ4dZaLxM0o"],
    )


def shown(key: ApiKey) -> ApiKeyOut:
    plain = ("project_id", "scopes", "last_used_at", "expires_at", "revoked_at", "replaced_by")
    return ApiKeyOut(**named(key), **{name: getattr(key, name) for name in plain}, status=keys.status(key))


def made_answer(made: Made) -> Answer:
    body = shown(made.row).model_dump()
    new, kept = NewApiKeyOut(**body, key=made.text), NewApiKeyOut(**body, key=None)
    return Answer(201, new, {"Location": f"/v1/api-keys/{made.row.id}"} | SECRET, kept)


@router.post(
    "", status_code=201, summary="Make an API key", response_model=NewApiKeyOut, responses=responses(409)
)
def create_key(body: ApiKeyIn, caller: Admin, settings: Config, once: OncePost) -> Response:
    """The answer holds its text, which is kept nowhere: only a keyed hash of it is."""
    project_id = _project(caller, body.project_id, "/project_id")

    def act(session: Session) -> Answer:
        made = keys.create(
            session,
            settings.secret,
            body.expires_in_seconds,
            project_id=project_id,
            name=body.name,
            notes=body.notes,
            meta=body.metadata,
            scopes=[scope for scope in keys.SCOPES if scope in body.scopes],
        )
        return made_answer(made)

    return once.run(act)


@router.get("", summary="List API keys, newest first")
def list_keys(
    caller: Admin,
    database: Db,
    paging: PageOf,
    status: Annotated[keys.Status | None, Query()] = None,
    project_id: Annotated[
        str | None, Query(pattern=PROJECT, description="Else your own; another one as when making keys.")
    ] = None,
) -> Page[ApiKeyOut]:
    """With those that are over."""
    project = _project(caller, project_id, "query:project_id")
    binding = "api-keys", project, status
    after = paging.after(*binding)
    where = [] if status is None else keys.having(status)
    with database.snapshot() as session:
        found = pages.newest(session, ApiKey, project, paging.limit + 1, *where, after=after)
        rows, cursor = paging.cut(found, pages.position, *binding)
        data = [shown(row) for row in rows]
    return Page(data=data, next_cursor=cursor)


@router.get("/{key_id}", summary="One API key", response_model=ApiKeyOut, responses=responses(404))
def get_key(request: Request, key_id: KeyId, caller: Admin, database: Db) -> Response:
    """With an `ETag`."""
    with database.snapshot() as session:
        body = shown(_found(session, caller, key_id))
    return tagged(request, body)


@router.patch(
    "/{key_id}", summary="Rename an API key", response_model=ApiKeyOut, responses=responses(404, 412)
)
def edit_key(request: Request, key_id: KeyId, edit: Edit, caller: Admin, database: Db) -> Response:
    """With `If-Match` only if it still is the version of that `ETag`."""
    with database.transaction() as session:
        return edited(request, edit, _found(session, caller, key_id, lock=True), shown)


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    summary="Replace an API key",
    response_model=NewApiKeyOut,
    responses=responses(404, 409),
)
def rotate_key(key_id: KeyId, body: RotationIn, caller: Admin, settings: Config, once: OncePost) -> Response:
    """By one that may do the same. The old one is good for `overlap_seconds` more, so that whoever uses it
    has time to take the new one.
    """

    def act(session: Session) -> Answer:
        key = _found(session, caller, key_id, lock=True)
        if (status := keys.status(key)) != "live":
            detail = f"The key {key_id} is {status}: make another instead."
            raise ApiProblem(409, "key_not_live", detail)
        return made_answer(keys.rotate(session, settings.secret, key, body.overlap_seconds))

    return once.run(act)


@router.delete("/{key_id}", status_code=204, summary="Revoke an API key", responses=responses(404, 409))
def revoke_key(key_id: KeyId, caller: Admin, database: Db) -> None:
    """At once, with every session of the page that was begun with it. It stays in the list, as revoked."""
    with database.transaction() as session:
        usage.counting(session, DEFAULT_PROJECT, "lasting admin keys")  # two may revoke each other
        key = _found(session, caller, key_id, lock=True)
        if keys.lasting_admins(session, DEFAULT_PROJECT) == [key_id]:
            detail = (
                f"{key_id} is the last admin key of '{DEFAULT_PROJECT}' without an end: nobody could make "
                "keys any more. Make another first."
            )
            raise ApiProblem(409, "last_admin_key", detail)
        keys.revoke(session, key)


def _project(caller: Principal, asked: str | None, pointer: str) -> str:
    """The project meant. Raises 403 alike for one that is there and one that is not."""
    if asked in (None, caller.project_id) or caller.project_id == DEFAULT_PROJECT:
        return asked or caller.project_id
    detail = f"Only an admin key of the project '{DEFAULT_PROJECT}' may name another project than its own."
    raise ApiProblem(403, "forbidden", detail, pointer=pointer)


def _found(session: Session, caller: Principal, key_id: str, *, lock: bool = False) -> ApiKey:
    project = None if caller.project_id == DEFAULT_PROJECT else caller.project_id
    key = keys.get(session, project, key_id, lock=lock)
    if key is None:
        raise not_found("API key", key_id)
    return key
