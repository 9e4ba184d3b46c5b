"""Starts a worker process: `diffin worker`."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

from celery import signals
from celery.platforms import SecurityWarning

from app import logs, tracing
from app.settings import Settings
from worker.celery import celery


def run(queues: Sequence[str] = ("cpu", "gpu")) -> None:
    """Serves `queues` until SIGTERM or SIGINT, which let the unit of work in hand finish first.

    One process does one unit of work at a time; run as many as there are GPUs, or cores to spare.
    """
    # Threads that spin while they wait take the cores from whoever they wait for: half the speed with another
    # process computing beside us, and no faster without. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from worker import reading

    reading.begin()
    # Its reason, pickled messages, does not hold here: JSON is all that is accepted.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    logs.configure(settings := Settings())
    tracing.begin("diffin-worker")
    signals.setup_logging.connect(_as_it_is)
    for chatter in ("celery.worker.strategy", "celery.app.trace"):  # two lines a message, and most are rings
        logging.getLogger(chatter).setLevel(logging.WARNING)
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    # quiet: its banner is no line of a log, let alone of one in JSON
    celery.worker_main(
        ["--quiet", "worker", "--loglevel", settings.log_level, "--queues", ",".join(queues), *options]
    )


def _as_it_is(**_: Any) -> None:
    """Told of this, Celery leaves the logs alone."""
