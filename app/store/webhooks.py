"""Webhooks: endpoints, and messages to them: pending → delivered | failed; skipped where nobody listens.

A message is written in the transaction of what it tells (`emit`), with the unit of work that sends it, so
that neither is there without the other. Of one job, or of one data set or checkpoint, an endpoint gets the
next message only after the one before it is delivered or given up.

Locks are taken in this order: the endpoint, the delivery, the unit of work.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store import work
from app.store.db import new_id, utcnow
from app.store.tables import WebhookDelivery, WebhookEndpoint
from app.store.work import Lease

EventType = Literal[
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "dataset.ready",
    "dataset.invalid",
    "checkpoint.ready",
    "checkpoint.invalid",
    "selection.succeeded",
    "selection.failed",
    "export.succeeded",
    "export.failed",
]
EVENTS: tuple[EventType, ...] = get_args(EventType)
FINISHED = ("delivered", "failed", "skipped")
JITTER = 0.1  # of each wait, so that receivers are not met by everything at once
MOST_ATTEMPTS_LISTED = 20
MOST_REPLAYED = 1000


class Attempt(NamedTuple):
    """How one attempt went: the receiver's status, or the words of what kept it from answering.

    `hidden` says more, to the operator alone: of an attempt that connected to nothing, what a resolver said.
    Nobody else learns how long that took.
    """

    status: int | None
    error: str | None
    seconds: float
    retry_after: float | None = None
    hidden: str | None = None

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


# ---------------------------------------------------------------- endpoints
def create(session: Session, **values: Any) -> WebhookEndpoint:
    endpoint = WebhookEndpoint(id=new_id("wh"), salt=secrets.token_bytes(32), **values)
    session.add(endpoint)
    return endpoint


def get(session: Session, project_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint | None:
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.id == endpoint_id, WebhookEndpoint.project_id == project_id
    )
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalar(query)


def secret(service_secret: bytes, salt: bytes) -> str:
    """The endpoint's secret as its receiver knows it: the tables alone do not tell it."""
    key = hmac.new(service_secret, b"webhook" + salt, hashlib.sha256).digest()
    return f"whsec_{base64.b64encode(key).decode()}"


def live_secrets(service_secret: bytes, endpoint: WebhookEndpoint) -> list[str]:
    """The endpoint's secret, and the one before it while that still counts."""
    salts = [endpoint.salt]
    if endpoint.previous_salt and endpoint.previous_until and endpoint.previous_until > utcnow():
        salts.append(endpoint.previous_salt)
    return [secret(service_secret, salt) for salt in salts]


def rotate(endpoint: WebhookEndpoint, hours: float) -> None:
    """A new secret; messages are signed with the old one as well for so many hours."""
    endpoint.previous_salt, endpoint.previous_until = endpoint.salt, utcnow() + timedelta(hours=hours)
    endpoint.salt = secrets.token_bytes(32)


def enable(endpoint: WebhookEndpoint) -> None:
    endpoint.disabled, endpoint.disabled_reason, endpoint.failing_since = False, None, None


def disable(session: Session, endpoint: WebhookEndpoint, reason: str) -> None:
    """Nothing is sent there any more; what was pending is skipped, and can be replayed. The caller holds the
    endpoint's lock.
    """
    endpoint.disabled, endpoint.disabled_reason = True, reason
    pending = WebhookDelivery.endpoint_id == endpoint.id, WebhookDelivery.status == "pending"
    for one in session.scalars(select(WebhookDelivery).where(*pending).with_for_update()).all():
        _finish(session, one, "skipped")


def delete(session: Session, endpoint: WebhookEndpoint) -> None:
    """Removes the endpoint and its deliveries. The caller holds its lock."""
    of = WebhookDelivery.endpoint_id == endpoint.id
    pending = select(WebhookDelivery.id).where(of, WebhookDelivery.status == "pending")
    for delivery_id in session.scalars(pending).all():
        work.drop(session, delivery_id)
    session.execute(delete_from(WebhookDelivery).where(of))
    session.delete(endpoint)


# ---------------------------------------------------------------- messages
def emit(
    session: Session,
    project_id: str,
    type: str,  # noqa: A002  (the event's)
    data: dict[str, Any],
    *,
    ordered_by: str | None = None,
) -> None:
    """Writes a message to each endpoint of the project that wants to hear of `type`.

    Args:
        data: what the message tells: `id`, `status`, and the ids of what it belongs to.
        ordered_by: the job whose messages go out one after another; else what `id` names.
    """
    mine = select(WebhookEndpoint).where(WebhookEndpoint.project_id == project_id)
    # locked so that none is deleted before its message is there
    endpoints = session.scalars(mine.order_by(WebhookEndpoint.id).with_for_update(read=True, key_share=True))
    message_id, now = new_id("msg"), utcnow()
    payload = {"type": type, "timestamp": now.isoformat().replace("+00:00", "Z"), "data": data}
    for endpoint in endpoints.all():
        if endpoint.events and type not in endpoint.events:
            continue
        delivery = WebhookDelivery(
            id=new_id("whd"),
            project_id=project_id,
            endpoint_id=endpoint.id,
            message_id=message_id,
            type=type,
            subject=data["id"],
            ordered_by=ordered_by or data["id"],
            payload=json.dumps(payload, separators=(",", ":")),
            status="skipped" if endpoint.disabled else "pending",
            created_at=now,
        )
        if not endpoint.disabled:
            _queue(session, delivery)
        session.add(delivery)
    session.flush()


def get_delivery(session: Session, project_id: str, delivery_id: str) -> WebhookDelivery | None:
    where = WebhookDelivery.id == delivery_id, WebhookDelivery.project_id == project_id
    return session.scalar(select(WebhookDelivery).where(*where))


def told(delivery: WebhookDelivery) -> dict[str, Any]:
    """What the message says."""
    payload: dict[str, Any] = json.loads(delivery.payload)
    return payload


def send_again(session: Session, delivery: WebhookDelivery) -> bool:
    """Queues a message once more, under its own id; False where it is pending anyway. The caller holds the
    lock of its endpoint.
    """
    session.refresh(delivery, with_for_update=True)
    if delivery.status == "pending":
        return False
    _queue(session, delivery)
    delivery.status, delivery.attempts, delivery.first_attempt_at = "pending", 0, None
    session.flush()
    return True


def replay(
    session: Session, endpoint: WebhookEndpoint, since: datetime, until: datetime, statuses: Sequence[str]
) -> tuple[int, datetime | None]:
    """Queues the endpoint's messages of [since, until) once more, oldest first. The caller holds its lock.

    Returns:
        How many, and where to go on from when there are more than 1000.
    """
    found = session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == endpoint.id, WebhookDelivery.status.in_(statuses))
        .where(WebhookDelivery.created_at >= since, WebhookDelivery.created_at < until)
        .order_by(WebhookDelivery.created_at, WebhookDelivery.id)
        .limit(MOST_REPLAYED + 1)
    ).all()
    queued = sum(send_again(session, delivery) for delivery in found[:MOST_REPLAYED])
    return queued, found[MOST_REPLAYED].created_at if len(found) > MOST_REPLAYED else None


def _queue(session: Session, delivery: WebhookDelivery) -> None:
    """Has a worker send the message once what came before it is out of the way."""
    session.flush()
    before = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.endpoint_id == delivery.endpoint_id, WebhookDelivery.status == "pending")
        .where(WebhookDelivery.ordered_by == delivery.ordered_by)
        .order_by(WebhookDelivery.id.desc())
        .limit(1)
        .with_for_update()  # whoever finishes it sees this one, or is seen to have finished
    )
    waits_for = session.scalar(before)
    stage = delivery.endpoint_id
    work.add(session, work.SENT, delivery.id, delivery.project_id, stage=stage, waits_for=waits_for)
    delivery.next_attempt_at = None if waits_for else utcnow()


# ---------------------------------------------------------------- sending
def taken(session: Session, delivery_id: str) -> tuple[WebhookDelivery, WebhookEndpoint] | None:
    """The message and where it goes; None where it need not be sent any more."""
    delivery = session.get(WebhookDelivery, delivery_id)
    if delivery is None or delivery.status != "pending":
        return None
    return delivery, session.get_one(WebhookEndpoint, delivery.endpoint_id)


def attempted(
    session: Session, lease: Lease, delivery_id: str, attempt: Attempt, waits: Sequence[float]
) -> None:
    """Notes how an attempt went, and plans the next one if it is needed and `waits` has one left.

    Raises:
        LeaseLostError: the message is somebody else's now, or was deleted.
    """
    delivery, endpoint = _locked(session, delivery_id)
    now = utcnow()
    if attempt.hidden is not None:
        now, attempt = now - timedelta(seconds=attempt.seconds), attempt._replace(seconds=0.0)
    if attempt.accepted:
        work.finish(session, lease)
        _note(delivery, attempt, now)
        endpoint.failing_since, delivery.delivered_at = None, now
        _finish(session, delivery, "delivered")
        return
    endpoint.failing_since = endpoint.failing_since or now - timedelta(seconds=attempt.seconds)
    if attempt.status == 410:
        work.finish(session, lease)
        _note(delivery, attempt, now)
        _finish(session, delivery, "failed")
        disable(session, endpoint, "gone")
    elif delivery.attempts < len(waits):
        wait = waits[delivery.attempts] * (1 + random.uniform(0, JITTER))  # noqa: S311  (hides nothing)
        wait = max(wait, min(attempt.retry_after or 0, 86_400))
        _note(delivery, attempt, now)
        delivery.next_attempt_at = now + timedelta(seconds=wait)
        work.postpone(session, lease, wait)
    else:
        work.finish(session, lease)
        _note(delivery, attempt, now)
        given_up(session, delivery, endpoint)


def lost(session: Session, delivery_id: str, error: dict[str, Any]) -> None:
    """Every worker that took the message died: it is given up."""
    delivery, endpoint = _locked(session, delivery_id)
    _note(delivery, Attempt(None, str(error["detail"]), 0.0), utcnow())
    endpoint.failing_since = endpoint.failing_since or delivery.first_attempt_at
    _finish(session, delivery, "failed")


def given_up(session: Session, delivery: WebhookDelivery, endpoint: WebhookEndpoint) -> None:
    """Ends a message after its last attempt; an endpoint that took nothing all that time is disabled."""
    _finish(session, delivery, "failed")
    began = delivery.first_attempt_at
    if endpoint.failing_since is not None and (began is None or endpoint.failing_since <= began):
        disable(session, endpoint, "failing")


def _locked(session: Session, delivery_id: str) -> tuple[WebhookDelivery, WebhookEndpoint]:
    endpoint_id = session.scalar(select(WebhookDelivery.endpoint_id).where(WebhookDelivery.id == delivery_id))
    fresh = {"populate_existing": True}
    where = select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id)
    endpoint = session.scalar(where.with_for_update(key_share=True).execution_options(**fresh))
    query = select(WebhookDelivery).where(WebhookDelivery.id == delivery_id)
    delivery = session.scalar(query.with_for_update().execution_options(**fresh))
    if delivery is None or endpoint is None or delivery.status != "pending":
        raise work.LeaseLostError(delivery_id)
    return delivery, endpoint


def _note(delivery: WebhookDelivery, attempt: Attempt, now: datetime) -> None:
    began = now - timedelta(seconds=attempt.seconds)
    delivery.attempts += 1
    delivery.first_attempt_at = delivery.first_attempt_at or began
    entry = {"at": began.isoformat(), "seconds": round(attempt.seconds, 3)}
    entry |= {"status_code": attempt.status, "error": attempt.error}
    delivery.log = [*delivery.log, entry][-MOST_ATTEMPTS_LISTED:]


def _finish(session: Session, delivery: WebhookDelivery, status: str) -> None:
    delivery.status, delivery.next_attempt_at = status, None
    work.drop(session, delivery.id)
    work.release_from(session, delivery.id)


# ---------------------------------------------------------------- by the clock
def purge(session: Session, days: float) -> None:
    """Forgets the finished messages that are older than so many days."""
    old = WebhookDelivery.created_at < utcnow() - timedelta(days=days)
    session.execute(delete_from(WebhookDelivery).where(old, WebhookDelivery.status.in_(FINISHED)))


def count_disabled(session: Session) -> int:
    """How many endpoints were disabled because they took nothing."""
    failing = WebhookEndpoint.disabled_reason == "failing"
    return session.scalar(select(func.count()).where(failing)) or 0


def lag(session: Session) -> tuple[int, float]:
    """(how many messages are pending, seconds since the oldest of them was written)."""
    query = select(func.count(), func.min(WebhookDelivery.created_at))
    count, oldest = session.execute(query.where(WebhookDelivery.status == "pending")).one()
    return count, (utcnow() - oldest).total_seconds() if oldest else 0.0
