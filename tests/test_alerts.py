"""The alert rules, by Prometheus' own tool: each fires on what it is for, alone, and not short of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "alerts.yml"
JOB = 'job="diffin", instance="a"'
WELL = {  # of a service at work, once a minute
    f"up{{{JOB}}}": "1+0x90",
    f"diffin_workers_alive{{{JOB}}}": "2+0x90",
    f'diffin_queue_oldest_seconds{{{JOB}, kind="validate"}}': "3+0x90",
    f'diffin_queue_oldest_seconds{{{JOB}, kind="block"}}': "5000+0x90",  # of a long job
    f'diffin_unit_seconds_count{{{JOB}, kind="block"}}': "0+10x90",
    f'diffin_leases_lost_total{{{JOB}, kind="block"}}': "0+0x90",
    f'diffin_unit_failures_total{{{JOB}, kind="fetch"}}': "0+0x90",
    f'diffin_requests_total{{{JOB}, method="GET", route="/v1/jobs", status="200"}}': "0+1000x90",
    f'diffin_requests_total{{{JOB}, method="GET", route="/v1/jobs", status="500"}}': "0+0x90",
    f'diffin_requests_total{{{JOB}, method="GET", route="/readyz", status="503"}}': "0+60x90",
    f'diffin_request_seconds_bucket{{{JOB}, method="GET", route="/v1/jobs", le="0.5"}}': "0+1000x90",
    f'diffin_request_seconds_bucket{{{JOB}, method="GET", route="/v1/jobs", le="2.5"}}': "0+1000x90",
    f'diffin_request_seconds_bucket{{{JOB}, method="GET", route="/v1/jobs", le="+Inf"}}': "0+1000x90",
    f"diffin_webhook_lag_seconds{{{JOB}}}": "20+0x90",
    f"diffin_webhook_endpoints_failing{{{JOB}}}": "1+0x90",  # since long ago
    f"diffin_storage_free_bytes{{{JOB}}}": "50+0x90",
    f"diffin_storage_size_bytes{{{JOB}}}": "100+0x90",
    f"diffin_storage_bytes{{{JOB}}}": "9000+0x90",  # in a bucket: more than the disk has
}


class Case(NamedTuple):
    """What is otherwise than in `WELL`, by the beginning of its name; None: it is gone."""

    otherwise: dict[str, str | None]
    fires: str | None


def kind(metric: str, of: str) -> str:
    return f'{metric}{{{JOB}, kind="{of}"}}'


def requests(status: str) -> str:
    return f'diffin_requests_total{{{JOB}, method="GET", route="/v1/jobs", status="{status}"}}'


def seconds(le: str, route: str = "/v1/jobs") -> str:
    return f'diffin_request_seconds_bucket{{{JOB}, method="GET", route="{route}", le="{le}"}}'


UP, ALIVE = f"up{{{JOB}}}", f"diffin_workers_alive{{{JOB}}}"
LAG, FAILING = f"diffin_webhook_lag_seconds{{{JOB}}}", f"diffin_webhook_endpoints_failing{{{JOB}}}"
FREE, SECOND = f"diffin_storage_free_bytes{{{JOB}}}", JOB.replace('"a"', '"b"')
LOST = "diffin_leases_lost_total"
STUCK: dict[str, str | None] = {kind("diffin_unit_seconds_count", "block"): "0+10x20 200+0x70"}

CASES = {
    "all is well": Case({}, None),
    "a scrape fails": Case({UP: "1+0x10 0+0x80"}, "DiffinDown"),
    "a scrape failed a minute ago": Case({UP: "1+0x79 0 0"}, None),
    "one of two machines is gone": Case({f"up{{{SECOND}}}": "0+0x90"}, "DiffinDown"),
    "nothing is scraped": Case(dict.fromkeys(WELL), "DiffinDown"),
    "no worker": Case({ALIVE: "2+0x10 0+0x80"}, "DiffinNoWorker"),
    "no worker for a minute, in a deploy": Case({ALIVE: "2+0x79 0 0"}, None),
    "no unit ends": Case(STUCK, "DiffinQueueStuck"),
    "no unit ends, and none has waited long": Case(
        STUCK | {kind("diffin_queue_oldest_seconds", "block"): "800+0x90"}, None
    ),
    "no unit ends, and none waits": Case(STUCK | {kind("diffin_queue_oldest_seconds", "block"): None}, None),
    "uploads wait": Case({kind("diffin_queue_oldest_seconds", "validate"): "400+0x90"}, "DiffinUploadsWait"),
    "an upload waited": Case({kind("diffin_queue_oldest_seconds", "validate"): "3+0x77 400 400 3"}, None),
    "four leases are lost": Case({kind(LOST, "block"): "0+0x70 1 2 4+0x20"}, "DiffinWorkersDie"),
    "two leases are lost": Case({kind(LOST, "block"): "0+0x70 1 2+0x20"}, None),
    "two leases are lost, as two machines tell": Case(
        {kind(LOST, "block"): "0+0x70 1 2+0x20", f'{LOST}{{{SECOND}, kind="block"}}': "0+0x70 1 2+0x20"},
        None,
    ),
    "four leases of two kinds are lost": Case(
        {kind(LOST, "block"): "0+0x70 2+0x20", kind(LOST, "sweep"): "0+0x70 2+0x20"}, "DiffinWorkersDie"
    ),
    "leases were lost an hour ago": Case({kind(LOST, "block"): "0+0x10 9+0x80"}, None),
    "attempts fail": Case({kind("diffin_unit_failures_total", "fetch"): "0+0x70 4+0x20"}, "DiffinUnitsFail"),
    "an attempt fails": Case({kind("diffin_unit_failures_total", "fetch"): "0+0x70 1+0x20"}, None),
    "two of a hundred answers are 500": Case({requests("500"): "0+20x90"}, "DiffinErrors"),
    "one of a thousand is": Case({requests("500"): "0+1x90"}, None),
    "reads take two seconds": Case({seconds("0.5"): "0+500x90"}, "DiffinSlow"),
    "one of a thousand reads does": Case({seconds("0.5"): "0+999x90"}, None),
    "streams last long": Case(
        {
            seconds(le, "/v1/jobs/{job_id}/events"): value
            for le, value in (("0.5", "0+0x90"), ("+Inf", "0+9x90"))
        },
        None,
    ),
    "a message is late": Case({LAG: "4000+0x90"}, "DiffinWebhooksLag"),
    "a message is late for a moment": Case({LAG: "20+0x75 4000+0x15"}, None),
    "an endpoint is given up": Case({FAILING: "1+0x70 2+0x20"}, "DiffinWebhooksDisabled"),
    "the disk is full": Case({FREE: "9+0x90"}, "DiffinStorageFull"),
    "the disk was full": Case({FREE: "9+0x70 50+0x20"}, None),
}


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    named = {line.split()[-1] for line in RULES.read_text().splitlines() if "- alert:" in line}
    assert {case.fires for case in CASES.values()} - {None} == named


def as_promtool_asks(name: str, case: Case) -> dict[str, Any]:
    series = {one: values for one, values in (WELL | case.otherwise).items() if values is not None}
    firing = [{"labels": f'{{alertname="{case.fires}"}}', "value": 1}] if case.fires else []
    told = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [{"expr": told, "eval_time": "80m", "exp_samples": firing}],
    }


def promtool(*what: str | Path) -> None:
    """Runs Prometheus' tool, which is to be content."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    ran = subprocess.run([found, *what], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_an_alert_fires_on_what_it_is_for_and_on_nothing_else(tmp_path: Path) -> None:
    tests = [as_promtool_asks(name, case) for name, case in CASES.items()]
    file = tmp_path / "cases.yml"  # of which JSON is a part
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


def test_what_the_page_has_operators_write_is_a_configuration(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(r"```yaml prometheus\n(.*?)```", page, re.DOTALL)
    assert found
    file = tmp_path / "prometheus.yml"
    file.write_text(found[1].replace("[deploy/", f"[{ROOT}/deploy/"))
    promtool("check", "config", file)
