"""What an operator sees: figures of API and workers in one scrape; a dashboard and alerts of them."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import servers, walk
from tests.services import Service

ROOT = Path(__file__).parents[2]
NAMES = re.compile(r"\bdiffin_[a-z_]+\b")
AT_TIMES = re.compile("diffin_(queue_depth|queue_oldest_seconds|work_running)")


def scraped(service: Service) -> dict[tuple[str, str], float]:
    """Every sample's value by its name and the label that tells it from others (`kind` or `status`)."""
    text = httpx.get(f"{service.url}/metrics").raise_for_status().text
    return {
        (sample.name, sample.labels.get("kind") or sample.labels.get("status") or ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("le", "+Inf") == "+Inf"
    }


def score(service: Service) -> None:
    """A job over two checkpoints of 20 samples, from its data to its end."""
    x, y = walk.digits(20)
    with service.client() as client:
        data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        run = walk.run(client, (10, 20))
        asked = walk.post_job(client, run, data, data, method={"name": "tracin"})
        assert walk.finished(client, walk.ok(asked, 202)["id"])["status"] == "succeeded"


@pytest.fixture(scope="module")
def figures(embedded_service: Service) -> dict[tuple[str, str], float]:
    """A scrape, after a job."""
    before = scraped(embedded_service)
    score(embedded_service)
    name = "diffin_samples_scored_total", ""
    end = time.monotonic() + 60
    while (now := scraped(embedded_service))[name] < before[name] + 40:
        assert time.monotonic() < end, "the worker's figures never came"
        time.sleep(0.2)
    assert now[name] == before[name] + 40
    return now


def test_the_workers_figures_are_there(figures: dict[tuple[str, str], float]) -> None:
    assert figures["diffin_unit_seconds_count", "block"] >= 2
    assert figures["diffin_unit_seconds_bucket", "block"] == figures["diffin_unit_seconds_count", "block"]
    assert figures["diffin_unit_seconds_sum", "block"] > 0
    assert ("diffin_leases_lost_total", "block") in figures
    assert figures["diffin_jobs", "succeeded"] >= 1
    assert figures["diffin_workers_alive", ""] == 1
    assert figures["diffin_storage_bytes", ""] > 0
    assert figures["diffin_storage_free_bytes", ""] > 0


@pytest.mark.parametrize("file", ["deploy/grafana.json", "deploy/alerts.yml", "docs/operations.md"])
def test_every_metric_that_is_named_is_in_a_scrape(figures: dict[tuple[str, str], float], file: str) -> None:
    text = (ROOT / file).read_text()
    there = {name for name, _ in figures} | {"diffin_queue_depth", "diffin_queue_oldest_seconds"}
    there |= {"diffin_work_running"}  # nothing may be queued or running when it is asked
    named = set(NAMES.findall(text))
    assert named - there == set()
    assert named


def expressions() -> dict[str, str]:
    """Of each panel of the dashboard and each of its queries, as Grafana would send it."""
    board = json.loads((ROOT / "deploy/grafana.json").read_text())
    return {
        f"{panel['title']}, {target['legendFormat']}": target["expr"]
        .replace("$__rate_interval", "1m")
        .replace("$job", "diffin")
        for panel in board["panels"]
        for target in panel.get("targets", [])
    }


@pytest.fixture(scope="module")
def prometheus(embedded_service: Service) -> Iterator[httpx.Client]:
    """A server that has scraped the service since before a job was done."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is missing: apt-get install prometheus")
    scraping = servers.prometheus(embedded_service.url, ROOT / "deploy" / "alerts.yml")
    with scraping as url, httpx.Client(base_url=url, timeout=30) as client:
        end = time.monotonic() + 30
        while not values(client, 'up{job="diffin"} == 1'):
            assert time.monotonic() < end, client.get("/api/v1/targets").text
            time.sleep(0.1)
        score(embedded_service)
        yield client


def values(prometheus: httpx.Client, expression: str) -> list[float]:
    """What there is now for an expression, one a series."""
    answer = prometheus.get("/api/v1/query", params={"query": expression})
    assert answer.status_code == 200, f"{expression}: {answer.text}"
    return [float(one["value"][1]) for one in answer.json()["data"]["result"]]


def test_every_panel_has_data_once_a_job_was_done(prometheus: httpx.Client) -> None:
    asked, end = expressions(), time.monotonic() + 20
    while empty := [
        name for name, one in asked.items() if not any(map(math.isfinite, values(prometheus, one)))
    ]:
        if all(AT_TIMES.search(asked[name]) for name in empty):
            return  # nothing was queued or running at the moment of a scrape
        assert time.monotonic() < end, empty
        time.sleep(0.2)


def test_a_service_that_is_well_fires_no_alert(prometheus: httpx.Client) -> None:
    [group] = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    assert len(group["rules"]) == (ROOT / "deploy/alerts.yml").read_text().count("- alert:")
    assert {(rule["health"], rule.get("lastError")) for rule in group["rules"]} == {("ok", None)}
    awake = {rule["name"] for rule in group["rules"] if rule["state"] != "inactive"}
    assert awake - {"DiffinStorageFull"} == set()  # the disk of whoever runs the tests may be full
