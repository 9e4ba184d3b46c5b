"""deploy/grafana.json: what Grafana needs of a dashboard, and what its readers do.

Debian has no Grafana to load it into; tests/contract/test_metrics.py puts its queries to a Prometheus.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

BOARD = json.loads((Path(__file__).parents[1] / "deploy" / "grafana.json").read_text())
PANELS = {panel["title"]: panel for panel in BOARD["panels"]}
CHARTS = [title for title, panel in PANELS.items() if panel["type"] != "row"]
UNITS = {"none", "s", "bytes", "percentunit", "reqps", "cps"}  # of Grafana's, those that are used


def test_panels_and_queries_have_names_of_their_own() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"]) == len(PANELS)
    for panel in BOARD["panels"]:
        names = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(names)) == len(names)


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    place = panel["gridPos"]
    across, down = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
    return set(itertools.product(across, down))


def test_panels_lie_side_by_side_on_a_grid_of_24_columns() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        assert not taken & cells(panel), panel["title"]
        taken |= cells(panel)
    width, height = (max(cell[axis] for cell in taken) + 1 for axis in (0, 1))
    assert (width, len(taken)) == (24, 24 * height)  # and leave no hole


@pytest.mark.parametrize("title", CHARTS)
def test_a_panel_says_what_it_shows_in_which_unit_of_which_service(title: str) -> None:
    panel = PANELS[title]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    for target in [panel, *panel["targets"]]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["expr"].count("diffin_") == target["expr"].count('job="$job"') > 0
        assert "rate(" not in target["expr"] or "[$__rate_interval]" in target["expr"]


def test_its_variables_are_the_source_of_the_data_and_the_service() -> None:
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["job"]["definition"] == variables["job"]["query"]["query"]
    assert variables["job"]["datasource"]["uid"] == "${datasource}"
