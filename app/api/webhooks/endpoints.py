"""Webhook endpoints: addresses that hear of jobs, data sets, checkpoints, selections and exports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from app import addresses
from app.api.deps import Caller, Config, Db
from app.api.idempotency import Answer, OncePost
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, ApiProblem, not_found, responses
from app.api.resources import (
    NO_NUL,
    Body,
    Edit,
    Metadata,
    Name,
    Notes,
    named,
    refuse_other_version,
    tagged,
)
from app.settings import Settings
from app.store import pages, webhooks
from app.store.db import utcnow
from app.store.tables import WebhookEndpoint
from app.store.webhooks import EventType

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"], responses=PROBLEMS)

Url = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=NO_NUL)]
Events = Annotated[list[EventType], Field(max_length=32, description="What to hear of; all when empty.")]
Description = Annotated[str, StringConstraints(max_length=1000, pattern=NO_NUL)]
EndpointId = Annotated[str, Path(pattern=NO_NUL, examples=["wh_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]
EXAMPLE: dict[str, Any] = {
    "id": "wh_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52",
    "name": "",
    "notes": "",
    "metadata": {},
    "created_at": "2026-11-25T02:00:00Z",
    "url": "https://hooks.example.com/diffin",
    "events": ["job.succeeded", "job.failed"],
    "description": "tells the channel",
    "disabled": False,
    "disabled_reason": None,
    "failing_since": None,
    "previous_secret_expires_at": None,
}


class EndpointIn(Body):
    """Where to send what."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"url": EXAMPLE["url"], "events": EXAMPLE["events"]},
                {"url": EXAMPLE["url"], "description": "everything, to the log"},
            ]
        }
    )

    url: Url = Field(description="https://…, on the public internet unless the operator allows more.")
    events: Events = Field(default_factory=list)
    description: Description = ""
    disabled: bool = False
    name: Name = ""
    notes: Notes = ""
    metadata: Metadata = Field(default_factory=dict)


class EndpointEdit(Edit):
    """What may be changed; what is left out stays. Enabling an endpoint again sends nothing by itself: replay
    the range that it missed."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    disabled: bool | None = None


class EndpointOut(BaseModel):
    """An endpoint. `disabled_reason`: `asked`, `gone` (it answered 410), or `failing` (it took nothing for as
    long as a message is tried)."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    name: str
    notes: str
    metadata: dict[str, str]
    created_at: datetime
    url: str
    events: list[str]
    description: str
    disabled: bool
    disabled_reason: Literal["asked", "gone", "failing"] | None
    failing_since: datetime | None = Field(description="The first failure since the last success.")
    previous_secret_expires_at: datetime | None


class EndpointWithSecret(EndpointOut):
    """An endpoint and its secret, which is shown here and never again."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [EXAMPLE | {"secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}]}
    )

    secret: str | None = Field(
        description="Verifies messages (Standard Webhooks). Keep it: it is shown only now; null when an "
        "Idempotency-Key replays the answer: then rotate it."
    )


class Rotation(Body):
    """How long the secret before it still signs, beside the new one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"keep_old_hours": 1}]})

    keep_old_hours: float = Field(24.0, ge=0, le=24 * 30)


class Replay(Body):
    """Which messages to send once more: those written from `since` on, before `until`."""

    # a time arrives as text, which a strict model would refuse
    model_config = ConfigDict(
        strict=False,
        json_schema_extra={"examples": [{"since": "2026-11-24T00:00:00Z", "until": "2026-11-25T00:00:00Z"}]},
    )

    since: datetime
    until: datetime | None = Field(None, description="Now, unless given.")
    statuses: list[Literal["failed", "skipped", "delivered"]] = Field(["failed", "skipped"], max_length=3)


class Replayed(BaseModel):
    """How many messages were queued; `next_since`, to ask again from, when a thousand were not all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"count": 12, "next_since": None}]})

    count: int
    next_since: datetime | None


def shown(row: WebhookEndpoint) -> EndpointOut:
    plain = ("url", "events", "description", "disabled", "disabled_reason", "failing_since")
    until = row.previous_until if row.previous_until and row.previous_until > utcnow() else None
    values = {name: getattr(row, name) for name in plain}
    return EndpointOut(**named(row), **values, previous_secret_expires_at=until)


def _with_secret(
    settings: Settings, row: WebhookEndpoint, status: int, headers: Mapping[str, str] | None = None
) -> Answer:
    """The answer that shows the secret, once: not where it is replayed."""
    told, secret = shown(row).model_dump(), webhooks.secret(settings.secret, row.salt)
    kept = EndpointWithSecret(**told, secret=None)
    return Answer(status, EndpointWithSecret(**told, secret=secret), headers or {}, kept)


@router.post("", status_code=201, summary="Have events sent to an address", response_model=EndpointWithSecret)
def create_endpoint(body: EndpointIn, caller: Caller, settings: Config, once: OncePost) -> Response:
    """Messages follow [Standard Webhooks](https://www.standardwebhooks.com): verify them with its libraries
    and the `secret` of this answer.
    """
    refuse_url(settings, body.url)

    def act(session: Session) -> Answer:
        row = webhooks.create(
            session,
            project_id=caller.project_id,
            meta=body.metadata,
            disabled_reason="asked" if body.disabled else None,
            **body.model_dump(exclude={"metadata"}),
        )
        session.flush()
        return _with_secret(settings, row, 201, {"Location": f"/v1/webhook-endpoints/{row.id}"})

    return once.run(act)


@router.get("", summary="List webhook endpoints, newest first")
def list_endpoints(caller: Caller, database: Db, paging: PageOf) -> Page[EndpointOut]:
    binding = "webhook-endpoints", caller.project_id
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(session, WebhookEndpoint, caller.project_id, paging.limit + 1, after=after)
        rows, cursor = paging.cut(found, pages.position, *binding)
        data = [shown(row) for row in rows]
    return Page(data=data, next_cursor=cursor)


@router.get(
    "/{endpoint_id}", summary="One webhook endpoint", response_model=EndpointOut, responses=responses(404)
)
def get_endpoint(request: Request, endpoint_id: EndpointId, caller: Caller, database: Db) -> Response:
    """With an `ETag`. The secret is not shown again."""
    with database.snapshot() as session:
        return tagged(request, shown(found_endpoint(session, caller.project_id, endpoint_id)))


@router.patch(
    "/{endpoint_id}",
    summary="Change a webhook endpoint",
    response_model=EndpointOut,
    responses=responses(404, 412),
)
def edit_endpoint(
    request: Request,
    endpoint_id: EndpointId,
    edit: EndpointEdit,
    caller: Caller,
    settings: Config,
    database: Db,
) -> Response:
    """`disabled: false` begins again after it was disabled; what it missed can be replayed. With `If-Match`
    only if it still is the version of that `ETag`.
    """
    if edit.url is not None:
        refuse_url(settings, edit.url)
    with database.transaction() as session:
        row = found_endpoint(session, caller.project_id, endpoint_id, lock=True)
        refuse_other_version(request, shown(row))
        edit.apply(row)
        for name in ("url", "events", "description"):
            if (value := getattr(edit, name)) is not None:
                setattr(row, name, value)
        if edit.disabled and not row.disabled:
            webhooks.disable(session, row, "asked")
        elif edit.disabled is False:
            webhooks.enable(row)
        return tagged(request, shown(row))


@router.delete(
    "/{endpoint_id}", status_code=204, summary="Delete a webhook endpoint", responses=responses(404)
)
def delete_endpoint(endpoint_id: EndpointId, caller: Caller, database: Db) -> None:
    """With its deliveries; nothing is sent there any more."""
    with database.transaction() as session:
        webhooks.delete(session, found_endpoint(session, caller.project_id, endpoint_id, lock=True))


@router.post(
    "/{endpoint_id}/rotate-secret",
    summary="Give an endpoint a new secret",
    response_model=EndpointWithSecret,
    responses=responses(404),
)
def rotate_secret(
    endpoint_id: EndpointId, body: Rotation, caller: Caller, settings: Config, once: OncePost
) -> Response:
    """Until the old secret expires messages carry two signatures, so that no receiver misses one."""

    def act(session: Session) -> Answer:
        row = found_endpoint(session, caller.project_id, endpoint_id, lock=True)
        webhooks.rotate(row, body.keep_old_hours)
        return _with_secret(settings, row, 200)

    return once.run(act)


@router.post(
    "/{endpoint_id}/replay",
    status_code=202,
    summary="Send the messages of a range once more",
    response_model=Replayed,
    responses=responses(404, 409),
)
def replay(endpoint_id: EndpointId, body: Replay, caller: Caller, once: OncePost) -> Response:
    """Oldest first, under their own `webhook-id`; those that are pending anyway are left alone."""

    def act(session: Session) -> Answer:
        row = found_endpoint(session, caller.project_id, endpoint_id, lock=True)
        refuse_disabled(row)
        since, until = _utc(body.since, "/since"), _utc(body.until or utcnow(), "/until")
        count, more = webhooks.replay(session, row, since, until, body.statuses)
        return Answer(202, Replayed(count=count, next_since=more))

    return once.run(act)


def _utc(time: datetime, pointer: str) -> datetime:
    if not time.tzinfo:
        raise ApiProblem(422, "validation_error", "Give times with their zone.", pointer=pointer)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        detail = "In UTC this time is before the year 1 or after 9999."
        raise ApiProblem(422, "validation_error", detail, pointer=pointer) from None


def found_endpoint(
    session: Session, project_id: str, endpoint_id: str, *, lock: bool = False
) -> WebhookEndpoint:
    row = webhooks.get(session, project_id, endpoint_id, lock=lock)
    if row is None:
        raise not_found("webhook endpoint", endpoint_id)
    return row


def refuse_disabled(row: WebhookEndpoint) -> None:
    """Raises 409 `endpoint_disabled` where nothing would be sent."""
    if row.disabled:
        detail = f"The endpoint {row.id} is disabled: PATCH it with `disabled: false` first."
        raise ApiProblem(409, "endpoint_disabled", detail)


def refuse_url(settings: Settings, url: str) -> None:
    """Raises 422 `unsafe_address` for an address that nothing would ever be sent to. Names are resolved when
    something is sent, not here: who asks learns nothing of the operator's network.
    """
    networks = settings.webhook_networks
    try:
        parts = addresses.parsed(url, plain=bool(networks))
    except addresses.AddressRefusedError as refused:
        raise ApiProblem(422, "unsafe_address", f"url: {refused}.", pointer="/url") from refused
    address = addresses.literal(parts.hostname or "")
    if address is not None and not addresses.allowed(address, networks):
        detail = (
            f"url: {address} is not an address of the public internet; the operator allows others with "
            "DIFFIN_WEBHOOK_ALLOW."
        )
        raise ApiProblem(422, "unsafe_address", detail, pointer="/url")
