"""The doorbell: tells workers that there is work. The database is the truth: a lost ring costs seconds."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from app import broker
from app.settings import Settings
from app.store.db import Message

log = logging.getLogger(__name__)
broker.register()

# One try: the caller is a request, and the sweeper rings again for whatever nobody came for.
IMPATIENT: dict[str, Any] = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
    "connect_retries_timeout": 2,
}
SHORT = {"socket_timeout": 2, "socket_connect_timeout": 2, "retry_on_timeout": False}


def producer(settings: Settings) -> Celery:
    """A Celery application that only sends, with short time-outs and no endless retry."""
    celery = Celery("diffin-api", broker=settings.broker_url, set_as_current=False)
    options = settings.broker_options | IMPATIENT
    if not settings.broker_url.startswith("filesystem"):
        options |= SHORT
    celery.conf.update(
        broker_connection_timeout=2,
        broker_transport_options=options,
        task_ignore_result=True,
        task_publish_retry=False,
    )
    return celery


def ring(celery: Celery, messages: list[Message]) -> None:
    """Sends the messages; a broker out of reach is logged, not raised."""
    try:
        for message in messages:
            celery.send_task(
                message.task, (message.work_id, message.attempt), queue=message.queue, retry=False
            )
    except (OperationalError, OSError) as problem:
        log.warning("the broker is out of reach (%s); the sweeper will ring again", problem)


def check(celery: Celery) -> None:
    """Raises OperationalError or OSError unless the broker answers."""
    with celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
