"""What an operator sees: figures of API and workers in one scrape; a dashboard and alerts of them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import walk
from tests.services import Service

ROOT = Path(__file__).parents[2]
NAMES = re.compile(r"\bdiffin_[a-z_]+\b")


def scraped(service: Service) -> dict[tuple[str, str], float]:
    """Every sample's value by its name and the label that tells it from others (`kind` or `status`)."""
    text = httpx.get(f"{service.url}/metrics").raise_for_status().text
    return {
        (sample.name, sample.labels.get("kind") or sample.labels.get("status") or ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("le", "+Inf") == "+Inf"
    }


@pytest.fixture(scope="module")
def figures(embedded_service: Service) -> dict[tuple[str, str], float]:
    """A scrape, after a job over two checkpoints of 20 samples."""
    before = scraped(embedded_service)
    x, y = walk.digits(20)
    with embedded_service.client() as client:
        data = walk.dataset(client, walk.npz(inputs=x, targets=y))["id"]
        run = walk.run(client, (10, 20))
        asked = walk.post_job(client, run, data, data, method={"name": "tracin"})
        assert walk.finished(client, walk.ok(asked, 202)["id"])["status"] == "succeeded"
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


def test_every_panel_asks_something() -> None:
    board = json.loads((ROOT / "deploy/grafana.json").read_text())
    assert all(target["expr"] for panel in board["panels"] for target in panel["targets"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
