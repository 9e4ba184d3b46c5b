"""Traces from the request to the worker's units, where OTEL_EXPORTER_OTLP_ENDPOINT names a collector.

The other OTEL_* variables hold as well; without the first nothing of OpenTelemetry is loaded. A unit of work
carries the `traceparent` of the request that it comes from, so that its span belongs to that request's trace.
Below the spans of requests and units are those of their statements.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

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
    event.listen(Engine, "before_cursor_execute", _asked)
    event.listen(Engine, "after_cursor_execute", _answered)
    event.listen(Engine, "handle_error", _failed)


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


# ---------------------------------------------------------------- statements
# OpenTelemetry's own instrumentation is for SQLAlchemy before 2.1, and sends a server's words about errors,
# which quote rows. The attributes' names: https://opentelemetry.io/docs/specs/semconv/database/database-spans/
def _asked(
    connection: Connection, _cursor: Any, statement: str, values: Any, context: Any, many: bool
) -> None:
    """Begins the span of a statement: its text, without the values of its parameters."""
    from opentelemetry.trace import SpanKind, get_current_span

    if not get_current_span().is_recording():
        return  # what a process asks of its own accord, many times a second
    url, verb = connection.engine.url, statement.split(maxsplit=1)[0].upper()
    told: dict[str, str | int | None] = {
        "db.system.name": connection.dialect.name,
        "db.namespace": Path(url.database or "").name,
        "db.operation.name": verb,
        "db.operation.batch.size": len(values) if many and len(values) > 1 else None,
        "db.query.text": statement,
        "server.address": url.host,
        "server.port": url.port,
    }
    known = {name: value for name, value in told.items() if value is not None}
    context.span = _tracer[0].start_span(verb, kind=SpanKind.CLIENT, attributes=known)


def _answered(
    _connection: Any, _cursor: Any, _statement: str, _values: Any, context: Any, _many: bool
) -> None:
    _end(context)


def _failed(error: ExceptionContext) -> None:
    _end(error.execution_context, error.original_exception)


def _end(context: Any, failure: BaseException | None = None) -> None:
    """Ends the statement's span, where it has one, with the kind of what it failed by."""
    span = context.__dict__.pop("span", None) if context is not None else None
    if span is None:
        return
    if failure is not None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("error.type", getattr(failure, "sqlstate", None) or type(failure).__name__)
        span.set_status(StatusCode.ERROR)
    span.end()
