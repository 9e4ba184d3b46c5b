"""What a worker process holds: its connections, what it keeps at hand, and whether it should stop."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from kombu.exceptions import OperationalError
from sqlalchemy.orm import Session

from app.settings import Settings
from app.store import blobs
from app.store.blobs import BlobStore
from app.store.db import Database, Message
from app.store.figures import Figures
from worker.celery import celery

Job = TypeVar("Job")

log = logging.getLogger(__name__)
stopping = threading.Event()  # set once the worker is asked to stop: no further unit is taken
busy = threading.Event()  # set while a message is being served
_making = threading.Lock()


@dataclass(frozen=True)
class Process:
    """Connections of this process, and what it keeps at hand between units of one job."""

    settings: Settings
    database: Database
    blobs: BlobStore
    owner: str
    at_hand: dict[str, Any] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)


def at_hand(mine: Process, job_id: str, read: Callable[[Session], Job]) -> Job:
    """The job, from what this process has at hand if it is the same one; else read, and nothing else kept."""
    if mine.at_hand.get("job_id") != job_id:
        mine.at_hand.clear()
        with mine.database.snapshot() as session:
            loaded = read(session)
        mine.at_hand.update(job_id=job_id, job=loaded)
    job: Job = mine.at_hand["job"]
    return job


def process() -> Process:
    """The one of this process, whichever of its threads asks."""
    with _making:
        return _made()


@cache
def _made() -> Process:
    settings = Settings()
    return Process(
        settings=settings,
        database=Database(settings.database_url, ring),
        blobs=blobs.opened(settings.blob_url, settings.blob_dir, settings.blob_cache_bytes),
        owner=f"{socket.gethostname()}:{os.getpid()}",
    )


def queues() -> list[str]:
    """Those that this worker serves."""
    return sorted(celery.amqp.queues.consume_from)


def ring(messages: list[Message]) -> None:
    """Rings the doorbell of the workers; a broker out of reach is logged, not raised."""
    try:
        for message in messages:
            celery.send_task(
                message.task, (message.work_id, message.attempt), queue=message.queue, retry=False
            )
    except (OperationalError, OSError) as problem:
        log.warning("the broker is out of reach (%s); a sweeper will ring again", problem)
