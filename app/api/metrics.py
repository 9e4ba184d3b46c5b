"""What `/metrics` shows, in a registry of the application's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.store import figures, jobs, webhooks, work, workers
from app.store.blobs import BlobStore
from app.store.db import Database
from app.store.tables import Figure

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
TASKS = tuple(work.TASKS)
OUTCOMES = ("accepted", "refused", "unanswered")


class Metrics:
    """Requests as they pass; jobs, queues, workers, webhooks and storage as they are when asked.

    Args:
        shared: the folder of several processes' counts; told are those of all, the dead included.
    """

    def __init__(
        self, database: Database, blobs: BlobStore, alive_seconds: float, shared: Path | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        if shared is not None:
            MultiProcessCollector(self.registry, str(shared))  # type: ignore[no-untyped-call]
        own, labels = self.registry if shared is None else None, ["method", "route"]
        self._requests = Counter("diffin_requests", "Requests answered.", [*labels, "status"], registry=own)
        self._seconds = Histogram(
            "diffin_request_seconds", "Seconds from request to answer.", labels, registry=own
        )
        self.registry.register(_Stored(database, blobs, alive_seconds))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class _Stored(Collector):
    def __init__(self, database: Database, blobs: BlobStore, alive_seconds: float) -> None:
        self._database, self._blobs, self._alive_seconds = database, blobs, alive_seconds

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not query the database."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        with self._database.snapshot() as session:
            counts = jobs.count_by_status(session)
            queued = work.queued(session)
            running = work.count_running(session)
            alive = len(workers.alive(session, self._alive_seconds))
            pending, lag = webhooks.lag(session)
            disabled = webhooks.count_disabled(session)
            blobs, size, free = self._blobs.usage(session)
            room = self._blobs.room()
            counted = figures.read(session)
        yield _gauges("diffin_jobs", "Jobs by status.", "status", counts)
        yield _gauges(
            "diffin_queue_depth", "Units of work queued.", "kind", {kind: count for kind, count, _ in queued}
        )
        ages = {kind: seconds for kind, _, seconds in queued}
        yield _gauges("diffin_queue_oldest_seconds", "Age of the oldest queued unit.", "kind", ages)
        yield _gauges("diffin_work_running", "Units of work being done.", "kind", running)
        for name, words, value in (
            ("diffin_workers_alive", "Workers heard of lately.", alive),
            ("diffin_webhooks_pending", "Webhook messages yet to be delivered.", pending),
            ("diffin_webhook_lag_seconds", "Age of the oldest webhook message yet to be delivered.", lag),
            ("diffin_webhook_endpoints_failing", "Endpoints disabled because they took nothing.", disabled),
            ("diffin_storage_blobs", "Blobs kept.", blobs),
            ("diffin_storage_bytes", "Bytes of the blobs kept.", size),
            ("diffin_storage_free_bytes", "Bytes free on the disk that files come in on.", free),
            ("diffin_storage_size_bytes", "Bytes of that disk, free or not.", room),
        ):
            yield GaugeMetricFamily(name, words, value=value)
        yield from _of_workers(counted)


def _gauges(name: str, words: str, label: str, values: dict[str, int] | dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label])
    for value, measured in values.items():
        family.add_metric([value], measured)
    return family


def _of_workers(counted: Sequence[Figure]) -> Iterator[Metric]:
    """Counters of the workers, each from zero on, so that its first increase is seen as one."""
    values = {(one.name, one.kind, one.le): one.value for one in counted}
    for name, words, label, kinds in (
        ("leases_lost", "Units of work whose worker fell silent.", "kind", tuple(work.QUEUES)),
        ("unit_failures", "Attempts at a unit of work that failed by the service's fault.", "kind", TASKS),
        ("webhook_attempts", "Attempts to deliver a webhook message.", "outcome", OUTCOMES),
    ):
        family = CounterMetricFamily(f"diffin_{name}", words, labels=[label])
        for kind in kinds:
            family.add_metric([kind], values.get((name, kind, ""), 0.0))
        yield family
    yield CounterMetricFamily(
        "diffin_samples_scored",
        "Samples scored, once for each checkpoint and repetition.",
        value=values.get(("samples_scored", "", ""), 0.0),
    )
    yield _unit_seconds(values)


def _unit_seconds(values: dict[tuple[str, str, str], float]) -> Metric:
    words = "Seconds that a unit of work took its worker."
    family = HistogramMetricFamily("diffin_unit_seconds", words, labels=["kind"])
    for kind in TASKS:
        below, buckets = 0.0, []
        for most in figures.BUCKETS:
            below += values.get(("unit_seconds_bucket", kind, str(most)), 0.0)
            buckets.append((str(most), below))
        count = values.get(("unit_seconds_count", kind, ""), 0.0)
        total = values.get(("unit_seconds_sum", kind, ""), 0.0)
        family.add_metric([kind], [*buckets, ("+Inf", count)], total)
    return family
