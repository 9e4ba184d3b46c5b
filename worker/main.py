"""Starts a worker process: `diffin worker`."""

from __future__ import annotations

from collections.abc import Sequence

from worker.celery import celery


def run(queues: Sequence[str] = ("cpu", "gpu"), concurrency: int | None = None) -> None:
    """Serves `queues` until SIGTERM or SIGINT, which let the unit of work in hand finish first."""
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--pool", "prefork"]
    if concurrency:
        options += ["--concurrency", str(concurrency)]
    celery.worker_main(["worker", "--loglevel", "INFO", "--queues", ",".join(queues), *options])
