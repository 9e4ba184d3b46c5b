"""Every line of API and worker says which request and which job it is about."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import logs
from app.settings import Settings
from tests import services, walk
from tests.services import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that logs JSON."""
    with services.embedded(tmp_path_factory.mktemp("logs"), LOG_FORMAT="json") as running:
        yield running


def test_a_workers_log_is_json_from_its_first_line(service: Service) -> None:
    of_serve = ("diffin  ", "key     ", "page    ")  # printed for whoever started it
    told = [line for line in service.log.read_text().splitlines() if not line.startswith(of_serve)]
    assert told and all(line.startswith("{") for line in told), told


def lines(service: Service) -> list[dict[str, Any]]:
    """The log's lines that are JSON: `diffin serve` prints some for people as well."""
    found = []
    for line in service.log.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]


def test_a_requests_id_goes_with_its_work_to_the_worker(service: Service) -> None:
    x, y = walk.digits(20)
    with service.client() as client:
        data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        run = walk.run(client, (10,))
        client.headers["X-Request-ID"] = "the-request-that-asked"
        asked = walk.post_job(client, run, data, data, method={"name": "tracin"})
        job_id = walk.ok(asked, 202)["id"]
        del client.headers["X-Request-ID"]
        assert walk.finished(client, job_id)["status"] == "succeeded"
        client.get(f"/v1/jobs/{job_id}")
    end = time.monotonic() + 10
    while not any(line.get("kind") == "reduce" for line in lines(service)):
        assert time.monotonic() < end, service.log_tail()
        time.sleep(0.1)
    found = [line for line in lines(service) if line.get("request_id") == "the-request-that-asked"]
    answered = next(line for line in found if line["logger"] == "app.api.middleware")
    assert (answered["method"], answered["path"], answered["status"]) == ("POST", "/v1/jobs", 202)
    worked = {line["kind"]: line for line in found if line["logger"] == "worker.run"}
    assert {"plan", "block", "reduce"} <= set(worked)
    assert {line["job_id"] for line in worked.values()} == {job_id}
    assert all(line["work_id"] and line["seconds"] >= 0 for line in worked.values())
    about = [line for line in lines(service) if line.get("job_id") == job_id]
    assert any(line.get("method") == "GET" for line in about)  # the API's lines name the job as well


@pytest.mark.parametrize("shape", ["text", "json"])
def test_lines_are_for_people_or_for_machines(
    shape: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        logs.configure(Settings(data_dir=tmp_path, log_format=shape))
        with logs.about(job_id="job_1", request_id=None):
            logging.getLogger("of.the.tests").warning(
                "%d of %d", 3, 4, extra={"kind": "block", "color_message": "\x1b[36m3"}
            )
        line = capsys.readouterr().err
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    if shape == "json":
        told = json.loads(line)
        assert told.pop("timestamp")
        assert told == {
            "event": "3 of 4",
            "job_id": "job_1",
            "kind": "block",
            "level": "warning",
            "logger": "of.the.tests",
        }
    else:
        assert (
            "3 of 4" in line and "job_id=job_1" in line and "\x1b" not in line and "color_message" not in line
        )


HOSTILE = ("\x1b[31mred", "\x9b2J", "\u202egpj", "\0", "a\nb", "\x7f", "\u2028", "\ud800")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_comes_from_outside_can_neither_steer_a_terminal_nor_begin_a_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    log = logging.getLogger("of.the.tests")
    try:
        logs.configure(Settings(data_dir=tmp_path, log_format="text"))
        with logs.about(job_id=text):
            log.warning("of %s", text, extra={"path": text, "known": [text]})
        one = capsys.readouterr().err
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("failed")
        trace = capsys.readouterr().err
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    escaped = text.encode("unicode_escape").decode()
    assert one.count("\n") == 1 and one.removesuffix("\n").isprintable()
    assert one.count(escaped) == 4
    assert all(line.isprintable() for line in trace.splitlines())
    assert "Traceback" in trace and trace.splitlines()[0].endswith("[of.the.tests]")
