"""Traces from the request to the worker's units, where OTEL_EXPORTER_OTLP_ENDPOINT names a collector.

The other OTEL_* variables hold as well; without the first nothing of OpenTelemetry is loaded. A unit of work
carries the `traceparent` of the request that it comes from, so that its span belongs to that request's trace.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)
_tracer: list[Any] = []  # of this process, once it has begun


def begin(service: str) -> None:
    """Has this process send its spans under the service's name."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _tracer:
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as missing:
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s: pip install 'diffin[otel]'", missing)
        return
    mine: dict[str, str | int] = {"service.name": service, "process.pid": os.getpid()}
    provider = TracerProvider(resource=Resource.create(mine))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _tracer.append(trace.get_tracer("diffin"))


def follow(app: FastAPI) -> None:
    """A span for each request of the application."""
    if _tracer:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(
            app, excluded_urls="livez,readyz,metrics", exclude_spans=["receive", "send"]
        )


def traceparent() -> str | None:
    """Of the span that is going on; None without one."""
    if not _tracer:
        return None
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(name: str, context: Mapping[str, str], **attributes: str) -> Iterator[None]:
    """A span of what the block does, below the one that `context` carries."""
    if not _tracer:
        yield
        return
    from opentelemetry.propagate import extract

    with _tracer[0].start_as_current_span(name, context=extract(context), attributes=attributes):
        yield
