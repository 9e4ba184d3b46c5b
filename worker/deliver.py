"""Sends webhooks: threads of the worker that look for messages that are due, beside whatever it computes.

A receiver gets a message at least once: who dies between sending and noting it leaves the unit to its lease,
and another worker sends it again under the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook

from app import addresses, logs
from app.addresses import Address, AddressRefusedError, Lookup
from app.settings import Settings
from app.store import webhooks, work
from app.store.tables import Work
from app.store.webhooks import Attempt
from app.store.work import Lease, LeaseLostError
from worker import pinned
from worker.beside import Beside
from worker.process import Process

NOWHERE = (
    "Not sent: the host's name leads to no address that webhooks may go to. Is it spelt right, of the public "
    "internet, and asked for by https?"
)
MOST_READ = 16 * 1024  # bytes of an answer; nobody looks at them
log = logging.getLogger(__name__)


class Senders(Beside):
    """The sending threads of one worker. Of one endpoint, each worker sends one message at a time."""

    def __init__(self, mine: Process, lookup: Lookup = socket.getaddrinfo) -> None:
        super().__init__("sender", mine.settings.webhook_senders, self._once)
        self._mine, self._lookup = mine, lookup
        self._picking = threading.Lock()
        self._busy: set[str] = set()

    def _once(self) -> bool:
        """Sends one message that is due; False where there is none."""
        with self._picking:
            row = take(self._mine, tuple(self._busy))
            if row is None:
                return False
            self._busy.add(row.stage)
        try:
            with logs.about(work_id=row.id, kind=row.kind, **(row.context or {})):
                deliver(self._mine, row, self._lookup)
        finally:
            self._busy.discard(row.stage)
        return True


def take(mine: Process, busy: Sequence[str] = ()) -> Work | None:
    """A unit that is due, leased for longer than sending may take."""
    with mine.database.snapshot() as session:
        due = work.next_due(session, work.SENT, busy)
    if due is None:
        return None
    seconds = mine.settings.webhook_seconds + mine.settings.lease_seconds
    with mine.database.transaction() as session:
        return work.claim(session, due.id, due.attempt, mine.owner, seconds)


def deliver(mine: Process, row: Work, lookup: Lookup = socket.getaddrinfo) -> None:
    """Sends the message that the unit is about, and notes how it went."""
    lease = Lease(row.id, row.attempt, mine.owner)
    with mine.database.snapshot() as session:
        found = webhooks.taken(session, row.subject)
        if found is None:
            return
        delivery, endpoint = found
        secrets = webhooks.live_secrets(mine.settings.secret, endpoint)
    now = datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "diffin-webhooks",
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(delivery.message_id, now, delivery.payload) for secret in secrets
        ),
    }
    attempt = send(mine.settings, endpoint.url, headers, delivery.payload.encode(), lookup)
    try:
        with mine.database.transaction() as session:
            waits = mine.settings.webhook_retry_seconds
            webhooks.attempted(session, lease, row.subject, attempt, waits)
    except LeaseLostError:
        log.info("webhook %s: the lease is somebody else's now", row.subject)
    else:
        outcome = "accepted" if attempt.accepted else "refused" if attempt.status else "unanswered"
        mine.figures.add("webhook_attempts", outcome)
        how = attempt.hidden or attempt.error or f"answered {attempt.status}"
        log.info("webhook %s of %s: %s", row.subject, delivery.subject, how)


def send(
    settings: Settings,
    url: str,
    headers: dict[str, str],
    body: bytes,
    lookup: Lookup = socket.getaddrinfo,
    trust: ssl.SSLContext | None = None,
) -> Attempt:
    """Posts to an address that a client gave: to where its name leads now, if that may be; no redirect is
    followed, and an answer is waited for no longer than DIFFIN_WEBHOOK_SECONDS.

    Whoever gave the name learns nothing of what it leads to: a name that is nowhere and one that is within
    are told in the same words.
    """
    began = time.monotonic()
    try:
        parts = addresses.parsed(url, plain=True)
    except AddressRefusedError as refused:
        return Attempt(None, f"Not sent: {refused}.", time.monotonic() - began)
    try:
        address = addresses.resolved(parts, settings.webhook_networks, lookup)[0]
    except AddressRefusedError as refused:
        return Attempt(None, NOWHERE, time.monotonic() - began, hidden=f"not sent: {refused}")
    try:
        post = _post(url, address, headers, body, trust)
        answer = asyncio.run(asyncio.wait_for(post, settings.webhook_seconds))
    except TimeoutError:
        words = f"No answer within {settings.webhook_seconds:g} s."
        return Attempt(None, words, time.monotonic() - began)
    except (httpx.HTTPError, OSError, ValueError) as broken:
        words = f"{type(broken).__name__}: {broken}".replace(str(address), parts.hostname or "")[:500]
        return Attempt(None, words, time.monotonic() - began)
    return Attempt(answer.status_code, None, time.monotonic() - began, _retry_after(answer))


async def _post(
    url: str, address: Address, headers: dict[str, str], body: bytes, trust: ssl.SSLContext | None
) -> httpx.Response:
    """The answer's head."""
    async with pinned.answered("POST", url, address, headers, content=body, trust=trust) as answer:
        read = 0
        async for piece in answer.aiter_raw():  # as it comes: nothing is unpacked
            read += len(piece)
            if read > MOST_READ:
                break
        return answer


def _retry_after(answer: httpx.Response) -> float | None:
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isdecimal() and len(told) < 9 else None
