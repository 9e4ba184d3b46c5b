"""Spans, as a collector of OTLP gets them: of requests, the work that comes of them, and their statements."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests import services, walk
from tests.services import Service

Span = tuple[str, Any]  # the name of the service, and what it sent


@contextmanager
def collecting() -> Iterator[tuple[str, list[Span]]]:
    """A collector of OTLP over HTTP: its address, and what comes."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    spans.extend((names["service.name"], span) for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", spans
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, list[Span]]]:
    """A service, and the spans that its collector gets."""
    with collecting() as (url, spans), pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with services.embedded(tmp_path_factory.mktemp("traces")) as running:
            yield running, spans


def attributes(span: Any) -> dict[str, str | int]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def until(spans: list[Span], wanted: Callable[[Any], bool]) -> list[Span]:
    """The spans that are `wanted`, once there are any."""
    end = time.monotonic() + 20
    while not (found := [(whose, span) for whose, span in spans if wanted(span)]):
        assert time.monotonic() < end, {span.name for _, span in spans}
        time.sleep(0.1)
    return found


def test_a_trace_leads_from_the_request_to_the_workers_units_and_their_statements(
    traced: tuple[Service, list[Span]],
) -> None:
    service, spans = traced
    x, y = walk.digits(20)
    with service.client() as client:
        asked = walk.ok(walk.post_dataset(client, walk.npz(inputs=x, targets=y)), 202)["id"]
        walk.until(client, f"/v1/datasets/{asked}", {"ready"})
    [(whose, unit)] = until(
        spans, lambda span: span.name == "work validate" and asked in attributes(span).values()
    )
    assert whose == "diffin-worker"
    [(whose, request)] = until(spans, lambda span: span.span_id == unit.parent_span_id)
    assert (whose, request.name, request.trace_id) == ("diffin-api", "POST /v1/datasets", unit.trace_id)
    assert not any("metrics" in span.name or "readyz" in span.name for _, span in spans)
    for parent, verb, table in ((request, "INSERT", "INTO datasets"), (unit, "UPDATE", "datasets SET")):
        statements = [attributes(span) for _, span in spans if span.parent_span_id == parent.span_id]
        assert any(
            one.get("db.operation.name") == verb and f"{verb} {table}" in str(one.get("db.query.text"))
            for one in statements
        ), statements


def test_no_span_of_a_statement_holds_a_value(traced: tuple[Service, list[Span]]) -> None:
    service, spans = traced
    with service.client() as client:
        walk.trajectory(client, metadata={"owner": "told-to-nobody"})
    until(spans, lambda span: "INTO trajectories" in str(attributes(span).get("db.query.text")))
    assert "told-to-nobody" not in str(spans)


TWICE = """
import sys

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from app import tracing
from app.store.db import Database
from app.store.tables import Figure

tracing.begin("of the tests")
database = Database(sys.argv[1])
database.check()
row = {name: "told-to-nobody" for name in ("name", "le", "kind")}
with tracing.span("unit", {}):
    for _ in range(2):
        try:
            with database.transaction() as session:
                session.execute(insert(Figure), [row | {"value": 1.0}])
        except IntegrityError:
            print("refused")
"""


def test_a_statement_that_fails_says_by_what_and_still_no_value(database_url: str) -> None:
    with collecting() as (url, spans):
        environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        ran = subprocess.run(
            [sys.executable, "-c", TWICE, database_url], env=environment, capture_output=True, text=True
        )
        assert ran.stdout == "refused\n", ran.stderr  # and its end sent what it had
    told = [span for _, span in spans]
    [unit] = [span for span in told if span.name == "unit"]
    assert all(span.parent_span_id == unit.span_id for span in told if span is not unit)  # none for `check`
    first, second = [attributes(span) for span in told if span.name == "INSERT"]
    assert "error.type" not in first
    assert second["error.type"] == ("IntegrityError" if "sqlite" in database_url else "23505")
    assert second["db.system.name"] == ("sqlite" if "sqlite" in database_url else "postgresql")
    assert "told-to-nobody" not in str(told)
