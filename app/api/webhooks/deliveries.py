"""Webhook deliveries: every message, how it went, and sending one again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.api.deps import Caller, Db
from app.api.idempotency import Answer, OncePost
from app.api.pagination import Page, PageOf
from app.api.problems import PROBLEMS, not_found, responses
from app.api.resources import NO_NUL
from app.api.webhooks.endpoints import found_endpoint, refuse_disabled
from app.store import pages, webhooks
from app.store.tables import WebhookDelivery
from app.store.webhooks import EventType

router = APIRouter(prefix="/v1/webhook-deliveries", tags=["webhooks"], responses=PROBLEMS)

Status = Literal["pending", "delivered", "failed", "skipped"]
DeliveryId = Annotated[str, Path(pattern=NO_NUL, examples=["whd_0197f4ea-0d3b-7c5e-9c4f-3f1f2d1f6a52"])]


class AttemptOut(BaseModel):
    """One attempt: the status that the receiver answered, or why there was no answer."""

    at: datetime
    seconds: float
    status_code: int | None
    error: str | None


class DeliveryOut(BaseModel):
    """A message to an endpoint. `skipped`: the endpoint was disabled; a replay sends it. What receivers
    answer is not kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "whd_0197f4ea-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "endpoint_id": "wh_0197f4e9-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "message_id": "msg_0197f4ea-0d3b-7c5e-9c4f-3f1f2d1f6a51",
                    "type": "job.succeeded",
                    "subject": "job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "status": "delivered",
                    "attempts": 1,
                    "log": [
                        {"at": "2026-11-25T02:00:00Z", "seconds": 0.04, "status_code": 204, "error": None}
                    ],
                    "created_at": "2026-11-25T02:00:00Z",
                    "next_attempt_at": None,
                    "delivered_at": "2026-11-25T02:00:00Z",
                    "payload": {
                        "type": "job.succeeded",
                        "timestamp": "2026-11-25T02:00:00Z",
                        "data": {
                            "id": "job_0197f4e8-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                            "status": "succeeded",
                            "type": "influence",
                        },
                    },
                }
            ]
        }
    )

    id: str
    endpoint_id: str
    message_id: str = Field(description="`webhook-id` of every attempt: receivers know by it what they had.")
    type: str
    subject: str
    status: Status
    attempts: int
    log: list[AttemptOut]
    created_at: datetime
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    payload: dict[str, Any]


def shown(row: WebhookDelivery) -> DeliveryOut:
    return DeliveryOut.model_validate(
        {name: getattr(row, name) for name in DeliveryOut.model_fields if name != "payload"}
        | {"payload": webhooks.told(row)}
    )


@router.get("", summary="List webhook deliveries, newest first")
def list_deliveries(
    caller: Caller,
    database: Db,
    paging: PageOf,
    endpoint_id: Annotated[str | None, Query(pattern=NO_NUL)] = None,
    status: Annotated[Status | None, Query()] = None,
    type: Annotated[EventType | None, Query()] = None,  # noqa: A002  (the parameter's name)
    subject: Annotated[
        str | None, Query(pattern=NO_NUL, description="The job, data set, … that it tells of.")
    ] = None,
) -> Page[DeliveryOut]:
    wanted = {"endpoint_id": endpoint_id, "status": status, "type": type, "subject": subject}
    binding = "webhook-deliveries", caller.project_id, wanted
    after = paging.after(*binding)
    with database.snapshot() as session:
        found = pages.newest(
            session, WebhookDelivery, caller.project_id, paging.limit + 1, after=after, **wanted
        )
        rows, cursor = paging.cut(found, pages.position, *binding)
        data = [shown(row) for row in rows]
    return Page(data=data, next_cursor=cursor)


@router.get("/{delivery_id}", summary="One webhook delivery", responses=responses(404))
def get_delivery(delivery_id: DeliveryId, caller: Caller, database: Db) -> DeliveryOut:
    with database.snapshot() as session:
        return shown(_found(session, caller.project_id, delivery_id))


@router.post(
    "/{delivery_id}/redeliver",
    status_code=202,
    summary="Send a message once more",
    response_model=DeliveryOut,
    responses=responses(404, 409),
)
def redeliver(delivery_id: DeliveryId, caller: Caller, once: OncePost) -> Response:
    """Under its own `webhook-id`, with all attempts anew; one that is pending anyway is left alone."""

    def act(session: Session) -> Answer:
        row = _found(session, caller.project_id, delivery_id)
        endpoint = found_endpoint(session, caller.project_id, row.endpoint_id, lock=True)
        refuse_disabled(endpoint)
        webhooks.send_again(session, row)
        return Answer(202, shown(row), {"Location": f"/v1/webhook-deliveries/{row.id}"})

    return once.run(act)


def _found(session: Session, project_id: str, delivery_id: str) -> WebhookDelivery:
    row = webhooks.get_delivery(session, project_id, delivery_id)
    if row is None:
        raise not_found("webhook delivery", delivery_id)
    return row
