"""What `/metrics` shows, in a registry of the application's own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.store import jobs, work, workers
from app.store.db import Database

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}


class Metrics:
    """Requests as they pass; jobs, queues and workers as the database has them when asked."""

    def __init__(self, database: Database, alive_seconds: float) -> None:
        self.registry = CollectorRegistry()
        labels = ["method", "route"]
        self._requests = Counter(
            "diffin_requests", "Requests answered.", [*labels, "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "diffin_request_seconds", "Seconds from request to answer.", labels, registry=self.registry
        )
        self.registry.register(_Stored(database, alive_seconds))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class _Stored(Collector):
    def __init__(self, database: Database, alive_seconds: float) -> None:
        self._database, self._alive_seconds = database, alive_seconds

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: registering must not query the database."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._database.snapshot() as session:
            counts = jobs.count_by_status(session)
            queued = work.queued(session)
            alive = len(workers.alive(session, self._alive_seconds))
        by_status = GaugeMetricFamily("diffin_jobs", "Jobs by status.", labels=["status"])
        for status, count in counts.items():
            by_status.add_metric([status], count)
        depth = GaugeMetricFamily("diffin_queue_depth", "Units of work queued.", labels=["kind"])
        age = GaugeMetricFamily(
            "diffin_queue_oldest_seconds", "Age of the oldest queued unit.", labels=["kind"]
        )
        for kind, count, seconds in queued:
            depth.add_metric([kind], count)
            age.add_metric([kind], seconds)
        yield from (by_status, depth, age)
        yield GaugeMetricFamily("diffin_workers_alive", "Workers heard of lately.", value=alive)
