"""Thin tasks, and what a worker does around them: prepare, sweep, beat, send, fetch, stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from importlib import metadata
from typing import Any

import torch
from celery import signals

from app.settings import Settings
from app.store import sweeper, work, workers
from worker.beside import Beside
from worker.celery import celery
from worker.deliver import Senders
from worker.job import pick_device
from worker.process import Process, busy, process, queues, stopping
from worker.run import Fetchers, serve

TIDY_SECONDS = 600.0
VERSION = metadata.version("diffin")
log = logging.getLogger(__name__)
_halt = threading.Event()
_beside: list[Beside] = []


@celery.task(name="diffin.validate")
def validate(work_id: str, attempt: int) -> None:
    """Rings for an upload to be opened; what is taken is whose turn it is."""
    _serve()


@celery.task(name="diffin.export")
def export(work_id: str, attempt: int) -> None:
    """Rings for scores to be written to a file."""
    _serve()


@celery.task(name="diffin.score")
def score(work_id: str, attempt: int) -> None:
    """Rings for work that computes."""
    _serve()


def _serve() -> None:
    busy.set()
    try:
        serve()
    finally:
        busy.clear()


@signals.worker_process_init.connect
def _prepare(**_: Any) -> None:
    settings = Settings()
    torch.backends.cudnn.allow_tf32 = False  # scores are float32 on every device,
    torch.backends.cudnn.deterministic = True  # and the same bits twice
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 1) // settings.workers))


@signals.worker_ready.connect
def _start_sweeping(sender: Any, **_: Any) -> None:
    mine = process()
    for target, name in ((_sweep_until_halted, "sweeper"), (_tidy_until_halted, "tidier")):
        threading.Thread(target=target, args=(mine,), name=name, daemon=True).start()
    _beside.append(Senders(mine))
    if work.QUEUES["validate"] in queues():  # what is fetched is read next
        _beside.append(Fetchers(mine))
    for threads in _beside:
        threads.start()


@signals.worker_shutting_down.connect
def _stop_after_the_unit_in_hand(**_: Any) -> None:
    stopping.set()


@signals.worker_shutdown.connect
def _stop_sweeping(**_: Any) -> None:
    _halt.set()
    while _beside:
        _beside.pop().stop()
    mine = process()
    with mine.database.transaction() as session:
        workers.gone(session, mine.owner)
        mine.figures.write(session)


def _sweep_until_halted(mine: Process) -> None:
    settings, parent = mine.settings, os.getppid()
    while not _halt.is_set():
        try:
            with mine.database.transaction() as session:
                workers.beat(session, mine.owner, queues(), _device(settings), VERSION)
                mine.figures.write(session)
            sweeper.sweep(
                mine.database,
                mine.blobs,
                max_attempts=settings.max_attempts,
                lease_seconds=settings.lease_seconds,
                idle_queues=() if busy.is_set() else queues(),
            )
        except Exception as problem:  # whatever it is, a worker without its sweeper is worse
            log.warning("sweeper: %s: %s; trying again", type(problem).__name__, problem)
        if settings.exit_with_parent and os.getppid() != parent:
            log.warning("the process that started this worker is gone: stopping")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        _halt.wait(min(1.0, settings.lease_seconds / 3))


def _tidy_until_halted(mine: Process) -> None:
    """Beside the sweeper: a worker that deletes for minutes is heard of all the same."""
    settings = mine.settings
    while not _halt.is_set():
        try:
            sweeper.tidy(
                mine.database,
                mine.blobs,
                webhook_log_days=settings.webhook_log_days,
                retention_days=settings.retention_days,
                audit_days=settings.audit_days,
            )
        except Exception as problem:  # the next time may do it
            log.warning("tidier: %s: %s; trying again", type(problem).__name__, problem)
        _halt.wait(TIDY_SECONDS)


def _device(settings: Settings) -> str:
    return str(pick_device(settings.device))
