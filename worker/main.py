"""Starts a worker process: `diffin worker`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from app.settings import Settings
from worker.celery import celery


def run(queues: Sequence[str] = ("cpu", "gpu")) -> None:
    """Serves `queues` until SIGTERM or SIGINT, which let the unit of work in hand finish first.

    One process does one unit of work at a time; run as many as there are GPUs, or cores to spare.
    """
    # Threads that spin while they wait take the cores from whoever they wait for: half the speed with another
    # process computing beside us, and no faster without. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    celery.worker_main(["worker", "--loglevel", Settings().log_level, "--queues", ",".join(queues), *options])
