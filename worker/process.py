"""What one process of the worker holds: its connections, made after the fork, and whether it should stop."""

from __future__ import annotations

import multiprocessing
import os
import socket
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from app.settings import Settings
from app.store.blobs import BlobStore
from app.store.db import Database, Message
from worker.celery import celery

# Made before the pool forks, so that parent and children share it: set once the worker is asked to stop.
stopping = multiprocessing.Event()


@dataclass(frozen=True)
class Process:
    """Connections of this process, and what it keeps at hand between units of one job."""

    settings: Settings
    database: Database
    blobs: BlobStore
    owner: str
    at_hand: dict[str, Any] = field(default_factory=dict)


@cache
def process() -> Process:
    """This process's connections; a forked child clears the cache and makes its own."""
    settings = Settings()
    return Process(
        settings=settings,
        database=Database(settings.database_url, ring),
        blobs=BlobStore(settings.blob_dir),
        owner=f"{socket.gethostname()}:{os.getpid()}",
    )


def after_fork() -> None:
    """Drops what the parent had open, without closing it for the parent."""
    if process.cache_info().currsize:
        process().database.engine.dispose(close=False)
    process.cache_clear()


def ring(messages: list[Message]) -> None:
    """Rings the doorbell of the workers."""
    for message in messages:
        celery.send_task(message.task, (message.work_id, message.attempt), queue=message.queue)
